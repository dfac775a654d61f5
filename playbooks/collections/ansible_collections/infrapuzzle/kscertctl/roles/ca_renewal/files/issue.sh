# Runs on a node that holds a CA's key: makes the CA's next certificate with the same key, subject
# and identifier, and prints the current one and the new one. It changes nothing on the node. A
# missing subject key identifier and key usage are added.

# extensions FILE: those of the new certificate. The subject needs none: it is copied, from
# certificate to request to certificate, because a printed name may differ from its bytes, which Go
# compares (RFC 5280, 7.1, wants the characters).
extensions() {
  fields "$1" | awk '
    $1 != "extension" { next }
    $2 == "551d13" { print "basicConstraints = critical, DER:" $3; is_ca = 1; next }
    $2 == "551d0f" { usage = $3; next }
    $2 == "551d0e" { print "subjectKeyIdentifier = DER:" $3; key = 1; next }
    $2 == "551d23" { own = 1; next }
    $2 == "551d11" { print "subjectAltName = DER:" $3; next }
    $2 == "551d25" { print "extendedKeyUsage = DER:" $3; next }
    $2 == "551d1e" { print "nameConstraints = critical, DER:" $3; next }
    $2 == "6086480186f842010d" { next } # a comment, of older openssl
    { print "unknown " $2; exit }
    END {
      if (!is_ca) print "unknown none"
      if (!key) print "subjectKeyIdentifier = hash"
      if (own) print "authorityKeyIdentifier = keyid:always"
      print "usage " usage
    }' >"$stage/found"
  ! grep -q '^unknown none' "$stage/found" ||
    fail "$1 does not say that it is a CA (basicConstraints): it cannot be re-issued as it is"
  unknown=$(sed -n 's/^unknown //p' "$stage/found")
  [ -z "$unknown" ] || fail "$1 has an extension that is not known here (DER $unknown): re-issue it where it was made"
  grep -v '^usage' "$stage/found"
  # keyCertSign is bit 5 of a BIT STRING (RFC 5280, 4.2.1.3): tag, length, unused bits, bits.
  usage=$(sed -n 's/^usage //p' "$stage/found")
  case $usage in
  0302???[4-7c-f] | 0303???[4-7c-f]??) echo "keyUsage = critical, DER:$usage" ;;
  *) echo 'keyUsage = critical, digitalSignature, keyEncipherment, keyCertSign' ;; # as kubeadm has it
  esac
}

# by_serial FILE: a certificate of this CA names it by its serial number. With another one, OpenSSL
# would not find the issuer of that certificate.
by_serial() {
  issuer=$(openssl x509 -in "$1" -noout -subject_hash)
  certificate_files | sort -u | while IFS= read -r file; do
    [ "$(openssl x509 -in "$file" -noout -issuer_hash 2>/dev/null)" = "$issuer" ] || continue
    ! openssl x509 -in "$file" -noout -ext authorityKeyIdentifier 2>/dev/null | grep -qi serial ||
      { echo yes && break; }
  done
}

# ends_at FILE: when the new certificate expires; never before the old one unless requested.
ends_at() {
  until=$(($(date +%s) + $(lasts_for "$1"))) was=$(date_of "$1" enddate)
  if [ "$KSCERT_CA_SECONDS" -gt 0 ] || [ "$until" -gt "$was" ]; then echo "$until"; else echo "$was"; fi
}

# reissue: the next certificate of the CA in $ca, in $stage/new.pem.
reissue() {
  [ -f "$ca" ] || fail "$ca does not exist"
  [ -f "$ca_key" ] || fail "$ca_key does not exist: a CA is re-issued where its key is"
  pair "$ca" "$ca_key" || fail "$ca_key does not belong to the first certificate in $ca"
  openssl x509 -in "$ca" -out "$stage/old.pem"
  [ "$(openssl x509 -in "$stage/old.pem" -noout -subject_hash)" = \
    "$(openssl x509 -in "$stage/old.pem" -noout -issuer_hash)" ] ||
    fail "$ca is signed by another CA ($(openssl x509 -in "$stage/old.pem" -noout -issuer)): have it re-issued there"
  extensions "$stage/old.pem" >"$stage/extensions"
  quietly openssl x509 -x509toreq -in "$stage/old.pem" -signkey "$ca_key" -out "$stage/request"
  if [ -n "$(by_serial "$stage/old.pem")" ]; then
    openssl x509 -in "$stage/old.pem" -noout -serial | cut -d= -f2 >"$stage/serial"
  else
    openssl rand -hex 15 >"$stage/serial"
  fi
  end=$(ends_at "$ca")
  sign_dated "$ca_key" $(($(date +%s) - 300)) "$end" -selfsign
  openssl verify -CAfile "$stage/new.pem" "$stage/new.pem" >/dev/null 2>&1 ||
    fail "the new certificate of $ca does not verify itself"
  [ "$(identity "$stage/new.pem")" = "$(identity "$stage/old.pem")" ] ||
    fail "the new certificate of $ca has another key or subject"
}

public_stage
for name in $KSCERT_CAS; do
  at "$name"
  reissue
  printf 'ca: %s|%s|%s\n' "$name" "$(one_line <"$stage/old.pem")" "$(one_line <"$stage/new.pem")"
done
