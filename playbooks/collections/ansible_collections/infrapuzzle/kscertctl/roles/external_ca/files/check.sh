# Checks what CAs outside of the cluster have signed for this node, before anything is changed on any
# node: each must be for the key of a certificate that is here, valid under the CA by which those who
# verify it trust it, and for the same user and names. It changes nothing.

# verifying: the files with the CAs of those who verify the certificate in chain.pem, by the settings of
# the components; $ca if none has one.
verifying() {
  for verifier in $verifiers; do
    case ",${verifier#*|}," in *",$leaf_kind,"*) of_setting "${verifier%%|*}" ;; esac
  done
  printf '%s\n' "$ca"
}

# purposes: the usages of the certificate in chain.pem, as openssl verify names them.
purposes() {
  usages=$(fields "$stage/chain.pem" | sed -n 's/^extension 551d25 //p')
  case $usages in *06082b06010505070301*) echo sslserver ;; esac
  case $usages in *06082b06010505070302*) echo sslclient ;; esac
}

# check: the successor of the certificate in chain.pem, if one was signed.
check() {
  signed_for <"$stage/chain.pem" >"$stage/new.pem"
  [ -s "$stage/new.pem" ] || return 0
  pair "$stage/new.pem" "$stage/key.pem" 2>/dev/null ||
    fail "what was signed for $what is not for its key, or that key is not there"
  verifying | sort -u >"$stage/verifiers"
  while IFS= read -r file; do
    [ -f "$file" ] || continue
    ! invalid "$file" "$stage/new.pem" || fail "the new $what is not valid under $file: $why"
    for purpose in $(purposes); do
      ! invalid "$file" "$stage/new.pem" -purpose "$purpose" ||
        fail "the new $what is not valid under $file for $purpose: $why"
    done
  done <"$stage/verifiers"
  check_successor "$stage/chain.pem" "$stage/new.pem" "$ca" "$what" >/dev/null
}

# tried: the same; every certificate is checked, also after one that is wrong.
wrong='' halves=''
tried() {
  halves="$halves$(openssl x509 -in "$stage/chain.pem" -noout -pubkey 2>/dev/null | public_half)
"
  message_of=$(check 2>&1) || wrong="$wrong${message_of#kscertctl: }; "
}

private_stage
each_leaf tried
for line in $KSCERT_SIGNED; do
  [ "$line" = signed: ] || printf '%s' "$halves" | grep -Fxq -e "${line%%|*}" ||
    wrong="${wrong}one is for a key that no certificate of this node has now: request it again; "
done
[ -z "$wrong" ] || fail "${wrong%; }"
