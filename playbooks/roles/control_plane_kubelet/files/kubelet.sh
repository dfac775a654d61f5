# Gives the kubelet of a control plane node a new client certificate without the
# API server. kubelet.conf keeps pointing at the rotating file.
need_backup
pki=$(pki_dir)
current=$kubelet/kubelet-client-current.pem
kubeletconf=$conf/kubelet.conf
[ -f "$kubeletconf" ] || fail "$kubeletconf does not exist"

sweep
due=
credential=$kubeletconf
[ ! -f "$current" ] || credential=$current
if kubelet_due; then due=yes; fi
embedded=
if grep -q client-certificate-data "$kubeletconf" && kubeconfig_ends_within "$kubeletconf" "$seconds"; then embedded=yes; fi

[ "$KSCERT_CHECK" = True ] || open_stage "$conf"
if [ -n "$due" ] && ! would_renew "$credential"; then
  check_authority ca
  stage_config
  if [ -f "$current" ]; then cp "$current" "$stage/old.crt"; else kubeconfig_certificate "$kubeletconf" >"$stage/old.crt"; fi
  issue_kubeconfig "$stage/old.crt" "$kubeletconf" "$stage/conf/kubelet.conf"
  mkdir -p "$kubelet"
  {
    cat "$stage/new.crt"
    awk '$1=="client-key-data:"{print $2; exit}' "$stage/user.conf" | base64 -d
  } >"$stage/pair"
  place_kubelet_pair "$stage/pair"
fi

# An embedded credential is not rotated: refer to the rotating file instead.
if { [ -n "$embedded" ] || { [ -n "$due" ] && grep -q client-certificate-data "$kubeletconf"; }; } &&
  ! checking "let $kubeletconf refer to $current"; then
  refer_to_current
fi

renew_serving_pair
