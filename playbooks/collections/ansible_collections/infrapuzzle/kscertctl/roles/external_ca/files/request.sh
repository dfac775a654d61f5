# Prints a certificate signing request (PKCS #10, RFC 2986) for certificates of this node, signed with
# the keys that they have, and the certificate: the same subject and public key, and as requested
# extensions the names and usages, byte for byte (orchestrator/certs, CheckRequest). What else is in a
# certificate, its CA decides. It changes nothing on the node, and no key leaves it.

# request_info: the CertificationRequestInfo for the certificate whose DER encoding is on standard
# input, in hexadecimal; then, on a line of its own, the algorithm of the signature.
request_info() {
  od -An -v -tx1 | awk "$derly"'
    { for (i = 1; i <= NF; i++) b[n++] = $i }
    END {
      open(0); open(V); end = E; p = V
      open(p)
      # Unless it is version 1, version; serialNumber, signature, issuer, validity.
      for (i = T == "a0" ? 5 : 4; i > 0; i--) { open(p); p = E }
      open(p); subject = hex(p, E); p = E
      open(p); key = hex(p, E); at = V; p = E
      for (; p < end; p = next_) {
        open(p); next_ = E
        if (T != "a3") continue
        open(V); last = E
        for (q = V; q < last; q = E) {
          open(q); stop = E; start = q
          open(V); oid = hex(V, E); E = stop
          # Names, and both kinds of usages.
          if (oid ~ /^551d(11|0f|25)$/) extensions = extensions hex(start, stop)
        }
      }
      open(at); open(V); oid = hex(V, E)
      if (oid == "2a864886f70d010101") algorithm = "300d06092a864886f70d01010b0500" # sha256WithRSAEncryption
      else if (oid == "2a8648ce3d0201") algorithm = "300a06082a8648ce3d040302" # ecdsa-with-SHA256
      else wrong()
      if (extensions != "") # extensionRequest, RFC 2985, 5.4.2
        extensions = der("30", "06092a864886f70d01090e" der("31", der("30", extensions)))
      print der("30", "020100" subject key der("a0", extensions))
      print algorithm
    }'
}

# bytes HEX: prints the bytes.
bytes() {
  # shellcheck disable=SC2059 # nothing but octal escapes
  printf "$(printf '%s' "$1" | awk "$derly"'
    { for (i = 1; i < length($0); i += 2) printf "\\%03o", number(substr($0, i, 2)) }')"
}

# wrap TAG HEX: a DER element with this content.
wrap() { printf '%s\n' "$2" | awk -v tag="$1" "$derly"'{ print der(tag, $0) }'; }

# request: $stage/request, for the certificate in chain.pem with the key in key.pem.
request() {
  openssl x509 -in "$stage/chain.pem" -outform DER >"$stage/der"
  request_info <"$stage/der" >"$stage/info" || fail "its key is neither RSA nor ECDSA"
  info=$(sed -n 1p "$stage/info")
  bytes "$info" >"$stage/info.der"
  quietly openssl dgst -sha256 -sign "$stage/key.pem" -out "$stage/signature" "$stage/info.der"
  signature=$(od -An -v -tx1 <"$stage/signature" | tr -d ' \n')
  bytes "$(wrap 30 "$info$(sed -n 2p "$stage/info")$(wrap 03 "00$signature")")" >"$stage/request.der"
  quietly openssl req -inform DER -in "$stage/request.der" -verify -out "$stage/request"
}

# ask: requests the certificate in chain.pem, once, if it is wanted.
asked=
ask() {
  of=$(sha256_of "$stage/chain.pem") || return 0
  case " $asked " in *" $of "*) return 0 ;; esac
  if [ "$KSCERT_REQUESTS_ALL" = True ]; then
    ! lasts "$seconds" <"$stage/chain.pem" || return 0
  else
    case " $KSCERT_REQUESTED " in *" $of "*) ;; *) return 0 ;; esac
  fi
  asked="$asked $of"
  if ! pair "$stage/chain.pem" "$stage/key.pem" 2>/dev/null; then
    refused='its key is not there, or belongs to another certificate: nothing can be requested for it'
    refuse "$what"
    return 0
  fi
  # One that cannot be requested does not stop the others.
  if ! why=$(request 2>&1); then
    refused=$(printf '%s' "${why#kscertctl: }" | tr '\n' ' ')
    refuse "$what"
    return 0
  fi
  printf 'request: %s|%s|%s\n' "$of" "$(one_line <"$stage/request")" "$(openssl x509 -in "$stage/chain.pem" | one_line)"
}

private_stage
each_leaf ask
