# Runs on a control plane: signs client certificates for kubelets from the requests of their nodes
# (request.sh), and prints them. Only the key of a request counts; the inventory decides whose
# certificate it is. If the old certificate names another node (--hostname-override), that name
# counts when its key has signed the request and the inventory has no other host of that name.
# Usages and lifetime are those of kube-controller-manager (Kubernetes,
# pkg/controller/certificates/signer).
pki=$(pki_dir)
check_authority ca
signs=$(issues ca)
open_stage "$conf"
cat >"$stage/extensions" <<CONF
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
CONF
# A CA from before Kubernetes 1.19 has no identifier, and openssl would stop there.
if issuing "$signs.crt" "$signs.key" | openssl x509 -noout -text | grep -q 'X509v3 Subject Key Identifier'; then
  echo 'authorityKeyIdentifier = keyid' >>"$stage/extensions"
fi
lifetime=$(for flag_of in cluster-signing-duration experimental-cluster-signing-duration; do
  named kube-controller-manager $flag_of
done | head -n 1 | seconds_of_duration)
[ "${lifetime:-0}" -gt 0 ] || lifetime=31536000

# subject_for NAME: leaves in $node the node that the certificate is for.
subject_for() {
  node=$1
  [ -s "$stage/old.pem" ] || return 0
  was=$(names "$stage/old.pem" | attributes | grep -Ev "$unread" | tr '\n' ',')
  case $was in
  "CN=system:node:$1,O=system:nodes,") return 0 ;;
  CN=system:node:*,O=system:nodes,) was=${was#CN=system:node:} was=${was%,O=system:nodes,} ;;
  *)
    was=${was%,}
    fail "its old certificate is that of ${was:-no one}, and no node's"
    ;;
  esac
  case $was in *[!a-z0-9.-]*) fail 'its old certificate names no node' ;; esac
  case " $KSCERT_NAMES " in
  *" $was "*) fail "its old certificate is that of $was, which is another host of the inventory" ;;
  esac
  openssl x509 -in "$stage/old.pem" -noout -pubkey >"$stage/old.pub" 2>/dev/null
  { cat "$pki/ca.crt" && former_ca ca; } >"$stage/signers"
  { verify "$stage/signers" "$stage/old.pem" -no_check_time &&
    openssl dgst -sha256 -verify "$stage/old.pub" -signature "$stage/proof" "$stage/request"; } >/dev/null 2>&1 ||
    fail "its old certificate names the node $was, and nothing proves that it is its own:" \
      "set kube_override_hostname to that name in the inventory"
  node=$was
}

# sign HOST NAME REQUEST OLD PROOF
sign() {
  case $2 in '' | *[!a-z0-9.-]*) fail "$2 is not a name of a node" ;; esac
  [ "$(printf '%s\n' "$KSCERT_NAMES" | tr ' ' '\n' | grep -Fxc -e "$2")" = 1 ] ||
    fail "the inventory has more than one host that is the node $2"
  { printf '%s' "$3" | base64 -d >"$stage/request" && printf '%s' "$4" | base64 -d >"$stage/old.pem" &&
    printf '%s' "$5" | base64 -d >"$stage/proof"; } ||
    fail 'its request is not base64'
  alone req "$stage/request" || fail 'its request cannot be read'
  [ ! -s "$stage/old.pem" ] || alone x509 "$stage/old.pem" || fail 'its old certificate cannot be read'
  subject_for "$2"
  sign_request "$signs.crt" "$signs.key" "$lifetime" "/O=system:nodes/CN=system:node:$node"
  ! invalid "$pki/ca.crt" "$stage/new.pem" || fail "what was signed is not valid under $pki/ca.crt: $why"
}

printf '%s\n' "$KSCERT_REQUESTS" >"$stage/requests"
while IFS='|' read -r host name request old proof; do
  rm -f "$stage/new.pem"
  if why=$(sign "$host" "$name" "$request" "$old" "$proof" 2>&1); then
    printf 'issued: %s|%s\n' "$host" "$(one_line <"$stage/new.pem")"
  else
    # Only its own node fails.
    printf 'refused: %s|%s\n' "$host" "$(printf '%s' "${why#kscertctl: }" | one_line)"
  fi
done <"$stage/requests"
