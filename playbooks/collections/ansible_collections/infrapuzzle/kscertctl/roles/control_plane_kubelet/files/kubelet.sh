# Gives the kubelet of a control plane node a new client certificate without the API server.
# kubelet.conf refers to the rotating file, or is changed to.
need_backup
pki=$(pki_dir)
current=$kubelet/kubelet-client-current.pem
[ -f "$kubelet_conf" ] || fail "$kubelet_conf does not exist"

sweep
due='' refer=''
if kubelet_due; then due=yes; fi
if refer_due || { [ -n "$due" ] && refers_elsewhere; }; then refer=yes; fi

[ "$KSCERT_CHECK" = True ] || open_stage "$conf"
if [ -n "$due" ] && ! would_renew_kubelet; then
  if ! from_outside; then
    check_authority ca
    stage_config
  fi
  kubelet_pair >"$stage/old.pem"
  if from_outside; then
    openssl x509 -in "$stage/old.pem" -out "$stage/old.crt"
    signed_for <"$stage/old.crt" >"$stage/new.crt"
    check_successor "$stage/old.crt" "$stage/new.crt" "$pki/ca.crt" "$current"
    openssl pkey -in "$stage/old.pem" | one_line >"$stage/new.key.64"
  elif [ -s "$stage/old.pem" ]; then
    openssl x509 -in "$stage/old.pem" -out "$stage/old.crt"
    issue_successor "$stage/old.crt" "$current"
    chain "$stage/old.pem" "$stage/new.crt" "$pki/ca.crt"
  else
    # Without a certificate that has the node's name: the name that the kubelet gives itself.
    name=$(sed -n 's/.*--hostname-override=\([^" ]*\).*/\1/p' "$conf/kubelet.env" 2>/dev/null | head -n 1)
    name=$(printf '%s' "${name:-$(cat /proc/sys/kernel/hostname)}" | tr '[:upper:]' '[:lower:]')
    issue_client "system:node:$name" system:nodes
  fi
  rm -f "$stage/old.pem"
  mkdir -p "$kubelet"
  { cat "$stage/new.crt" && base64 -d "$stage/new.key.64"; } >"$stage/pair"
  place_kubelet_pair "$stage/pair"
fi
if [ -n "$refer" ] && ! checking "let $kubelet_conf refer to $current"; then refer_to_current; fi

renew_serving_pair
