# Prints whether this node's kubelet needs a client certificate that it cannot request by itself,
# and makes a key and a request for one. The key stays here; what travels to a control plane is
# public: the request, the old certificate, and a signature of the request by the old key, which
# proves who asks.
need_backup
current=$kubelet/kubelet-client-current.pem
[ -f "$kubelet_conf" ] || fail "$kubelet_conf does not exist: join the node again instead"

sweep
renew_serving_pair
# It was removed, and the kubelet not restarted since: it still serves the old one.
if [ ! -f "$kubelet/kubelet.crt" ] && [ ! -e "$kubelet/kubelet-server-current.pem" ] && ! serves_other; then
  checking 'restart the kubelet' || changed 'the kubelet has no serving certificate until it is restarted'
fi
due=
if kubelet_due; then due=yes; fi
if [ -z "$due" ] && refer_due && ! checking "let $kubelet_conf refer to $current"; then
  stage=$kubelet/.kscertctl.refer
  mkdir "$stage"
  : >"$kubelet/.kscertctl.restart"
  refer_to_current
  rm -rf "$stage"
fi
if restart_due; then
  checking 'restart the kubelet' || changed 'the kubelet has not been restarted since it got a certificate'
fi
[ -n "$due" ] || exit 0
checking 'give the kubelet a new client certificate' && exit 0
if from_outside; then # for the key that there is: nothing is requested
  echo 'signed: the client certificate of the kubelet'
  exit 0
fi

mkdir -p "$kubelet"
stage=$kubelet/.kscertctl.request
mkdir "$stage"
quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$stage/key"
# The inventory and the old certificate decide whose certificate it is, not this subject.
quietly openssl req -new -key "$stage/key" -subj /CN=kubelet -out "$stage/request"
kubelet_pair >"$stage/old.pem"
old='' proof=''
if openssl x509 -in "$stage/old.pem" -out "$stage/old.crt" 2>/dev/null; then
  old=$(one_line <"$stage/old.crt")
  proof=$(openssl dgst -sha256 -sign "$stage/old.pem" "$stage/request" 2>/dev/null | one_line)
fi
certificates "$stage/old.pem" >"$stage/old.chain"
rm -f "$stage/old.pem"
printf 'request: %s|%s|%s\n' "$(one_line <"$stage/request")" "$old" "$proof"
