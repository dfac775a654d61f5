# Installs the client certificate that a control plane has signed for this node's kubelet (sign.sh),
# and restarts the kubelet with it.
need_backup
current=$kubelet/kubelet-client-current.pem
stage=$kubelet/.kscertctl.request
if from_outside && kubelet_due; then mkdir -p "$stage"; fi
if [ -d "$stage" ]; then
  trap 'rm -rf "$stage"' EXIT
  trap 'exit 130' INT TERM HUP
  if from_outside; then
    kubelet_pair >"$stage/old.pem"
    openssl pkey -in "$stage/old.pem" -out "$stage/key"
    openssl x509 -in "$stage/old.pem" -out "$stage/old.crt"
    KSCERT_ISSUED=$(signed_for <"$stage/old.crt" | one_line)
  fi
  [ -z "$KSCERT_REFUSED" ] ||
    fail "no client certificate was signed for this kubelet: $(printf '%s' "$KSCERT_REFUSED" | base64 -d)"
  [ -n "$KSCERT_ISSUED" ] || fail "no control plane has signed a client certificate for this kubelet:" \
    "with --limit, name the first control plane there, too"
  printf '%s' "$KSCERT_ISSUED" | base64 -d >"$stage/new.pem"
  pair "$stage/new.pem" "$stage/key" ||
    fail 'the new client certificate does not belong to the key that was made for it'
  # The kubelet trusts the API server's CA, which is also the one that signs kubelets.
  embedded_authorities "$kubelet_conf" >"$stage/ca.pem"
  file=$(sed -n 's/^.*certificate-authority["'"'"']\{0,1\}: *["'"'"']\{0,1\}\([^"'"'"', }]*\).*/\1/p' "$kubelet_conf" |
    head -n 1 | sed "s|^[^/]|$conf/&|")
  [ -s "$stage/ca.pem" ] || cat "${file:-$conf/ssl/ca.crt}" >"$stage/ca.pem"
  from_outside || chain "$stage/old.chain" "$stage/new.pem" "$stage/ca.pem"
  ! invalid "$stage/ca.pem" "$stage/new.pem" ||
    fail "the new client certificate is not valid under the CA in $kubelet_conf: $why"
  if [ -s "$stage/old.crt" ] && [ "$(names "$stage/old.crt")" != "$(names "$stage/new.pem")" ]; then
    noted "the kubelet was $(names "$stage/old.crt" | sed -n '1s/^subject=//p')," \
      "and is $(names "$stage/new.pem" | sed -n '1s/^subject=//p')"
  fi
  cat "$stage/new.pem" "$stage/key" >"$stage/pair"
  : >"$kubelet/.kscertctl.restart"
  place_kubelet_pair "$stage/pair"
  if refers_elsewhere; then refer_to_current; fi
fi
begin_again
