# Runs on one node that has the key of a CA: makes the next CA, with a new key and another name, unless it is
# there, and prints it for the others (take.sh): its key only as encrypted to each of them.
need_backup

# algorithm: options of genpkey, as kubeadm's configuration sets it (kubeadm, certs: EncryptionAlgorithm).
algorithm() {
  case $([ ! -f "$config" ] || top_level encryptionAlgorithm) in
  ECDSA-P256) echo '-algorithm EC -pkeyopt ec_paramgen_curve:P-256' ;;
  ECDSA-P384) echo '-algorithm EC -pkeyopt ec_paramgen_curve:P-384' ;;
  RSA-3072) echo '-algorithm RSA -pkeyopt rsa_keygen_bits:3072' ;;
  RSA-4096) echo '-algorithm RSA -pkeyopt rsa_keygen_bits:4096' ;;
  *) echo '-algorithm RSA -pkeyopt rsa_keygen_bits:2048' ;;
  esac
}

# make: the next CA, with another name: OpenSSL finds the wrong one of two with the same. With both
# identifiers, which strict clients require; and the same as signed by the former CA, for clients that
# do not trust the next one yet. Where the former one is replaced at once (KSCERT_CA_OFFLINE), its key is
# not used: it may be lost, or known to others.
make() {
  [ "$(grep -c '^-----BEGIN CERTIFICATE-----' "$ca")" = 1 ] || fail "$ca does not hold one certificate alone"
  [ "${KSCERT_CA_OFFLINE:-}" = True ] || {
    [ -f "$ca_key" ] || fail "$ca_key does not exist"
    check_issuer "$ca" "$ca_key"
  }
  openssl x509 -in "$ca" -out "$stage/former"
  called=$(names "$stage/former" | attributes | sed -n 's/^CN=//p' | head -n 1 | sed 's/-[0-9]\{12\}$//; s/[^A-Za-z0-9._-]/_/g')
  # shellcheck disable=SC2046 # words
  quietly openssl genpkey $(algorithm) -out "$stage/key"
  quietly openssl req -new -key "$stage/key" -subj "/CN=${called:-$name}-$(date -u +%Y%m%d%H%M)" -out "$stage/request"
  cat >"$stage/extensions" <<CONF
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyEncipherment, keyCertSign
subjectKeyIdentifier = hash
CONF
  openssl rand -hex 15 >"$stage/serial"
  lifetime=$(lasts_for "$ca")
  sign_dated "$stage/key" $(($(date +%s) - 300)) $(($(date +%s) + lifetime)) -selfsign
  mv "$stage/new.pem" "$stage/next"
  openssl verify -CAfile "$stage/next" "$stage/next" >/dev/null 2>&1 || fail "the next $name does not verify itself"
  if [ "$name" = kubernetes-ca ] && [ "${KSCERT_CA_OFFLINE:-}" != True ]; then
    ! openssl x509 -in "$stage/former" -noout -text | grep -q 'X509v3 Subject Key Identifier' ||
      echo 'authorityKeyIdentifier = keyid' >>"$stage/extensions"
    sign_request "$ca" "$ca_key" "$lifetime"
    create "$stage/new.pem" "$ca" "$ca_cross"
  fi
  put_next "$stage/former" "$stage/key" "$stage/next"
}

open_stage "$(safe_dir "$(home_of_cas)")"
for name in $KSCERT_CAS; do
  rotated "$name"
  if ! made; then
    ! checking "make the next certificate of $ca, with a new key" || continue
    make
  fi
  cross=
  [ ! -f "$ca_cross" ] || cross=$(one_line <"$ca_cross")
  public="$name|$(one_line <"$ca_next")|$(one_line <"$ca_former")|$cross"
  printf '%s\n' "$KSCERT_RECEIVERS" >"$stage/receivers"
  while IFS='|' read -r host certificate holds; do
    case ",$holds," in *",$name,"*) ;; *) continue ;; esac
    printf '%s' "$certificate" | base64 -d >"$stage/receiver" || fail "the answer of $host is not base64"
    alone x509 "$stage/receiver" || fail "the answer of $host is no certificate"
    openssl cms -encrypt -binary -aes256 -in "$ca_next_key" -outform DER -out "$stage/encrypted" \
      -recip "$stage/receiver" -keyopt rsa_padding_mode:oaep || fail "the key cannot be encrypted for $host"
    printf 'next: %s|%s|%s\n' "$host" "$public" "$(one_line <"$stage/encrypted")"
  done <"$stage/receivers"
done
