# Proves by use that servers trust the next CA: certificates of it for a user without any right, valid
# for minutes, log in: on one control plane at every API server and every kubelet, as the front proxy at
# each API server, too; and on each node that has the key of etcd's CA at its own members.
open_own_stage
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=20s "$@"; }

# probe COMMON-NAME: a client certificate of the next CA of $name.
probe() {
  quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$stage/$name.key"
  quietly openssl req -new -key "$stage/$name.key" -subj "/CN=$1" -out "$stage/request"
  printf 'basicConstraints = critical, CA:FALSE\nkeyUsage = critical, digitalSignature\nextendedKeyUsage = clientAuth\n' \
    >"$stage/extensions"
  sign_request "$ca_next" "$ca_next_key" 900
  mv "$stage/new.pem" "$stage/$name.crt"
}

# ask ADDRESS PATH [HEADER]: the answer to the user of that certificate.
ask() {
  {
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' "$2"
    [ -z "${3:-}" ] || printf '%s\r\n' "$3"
    printf '\r\n'
  } | client 8 -quiet -cert "$stage/$name.crt" -key "$stage/$name.key" -connect "$1" 2>/dev/null
}

# known ANSWER: the user has been recognized, whatever it may do.
known() {
  case $1 in
  *anonymous*) return 1 ;;
  'HTTP/1.1 200 '* | 'HTTP/1.1 403 '*) ;;
  *) return 1 ;;
  esac
}

# lacking: who does not trust the next CA yet.
lacking() {
  while read -r kind address; do
    case $name/$kind in
    etcd-*/member) answer=$(ask "$address" /version) ;;
    kubernetes-ca/api) answer=$(ask "$address" /api/v1/nodes) ;;
    kubernetes-ca/kubelet) answer=$(ask "$address" /pods) ;;
    front-proxy-ca/api)
      answer=$(ask "$address" /api/v1/nodes 'X-Remote-User: kscertctl-probe')
      case $answer in *kscertctl-probe*) ;; *) answer= ;; esac
      ;;
    *) continue ;;
    esac
    known "$answer" || printf '%s of %s, ' "$kind" "$address"
  done <"$stage/servers"
}

# members: the ports of this node's members of etcd, for clients and for other members.
members() { each_member ports_of_member; }
ports_of_member() {
  printf 'member %s\n' "$etcd_address"
  url "$(of_etcd listen-peer-urls "$etcd")"
  [ -z "$value" ] || printf 'member %s\n' "$value"
}

# servers: the API servers and the kubelets of the cluster.
servers() {
  kubectl_ -n default get endpoints kubernetes -o 'jsonpath={range .subsets[*]}{range .addresses[*]}{.ip}{" "}{end}{.ports[0].port}{"\n"}{end}' \
    2>"$stage/message" </dev/null >"$stage/api" || fail "the API servers are not known: $(cat "$stage/message")"
  kubectl_ get nodes -o 'jsonpath={range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address}{" "}{.status.daemonEndpoints.kubeletEndpoint.Port}{"\n"}{end}' \
    2>"$stage/message" </dev/null >"$stage/kubelets" || fail "the nodes are not known: $(cat "$stage/message")"
  awk '{ for (i = 1; i < NF; i++) print "api", ($i ~ /:/ ? "[" $i "]" : $i) ":" $NF }' "$stage/api"
  awk 'NF > 1 { print "kubelet", ($1 ~ /:/ ? "[" $1 "]" : $1) ":" $NF }' "$stage/kubelets"
}

for name in $KSCERT_CAS; do
  rotated "$name"
  case $name in
  etcd-*)
    [ -f "$ca_next_key" ] || continue
    members >"$stage/servers"
    ;;
  *) servers >"$stage/servers" ;;
  esac
  [ -s "$stage/servers" ] || fail "no server is known that trusts $name"
  case $name in
  front-proxy-ca)
    [ -n "$(named kube-apiserver requestheader-client-ca-file)" ] || continue
    allowed=$(named kube-apiserver requestheader-allowed-names)
    probe "$(printf '%s' "${allowed:-front-proxy-client}" | sed 's/,.*//; s/"//g')"
    ;;
  *) probe kscertctl-probe ;;
  esac
  while missing=$(lacking) && [ -n "$missing" ]; do
    [ "$(date +%s)" -lt "$deadline" ] || fail "after $KSCERT_WAIT_SECONDS seconds these do not accept a certificate of the next $name: ${missing%, }"
    sleep 2
  done
  # A container that starts from now on reads both CAs, once its kubelet has followed.
  [ "$name" != kubernetes-ca ] || [ -e "$trusted_since" ] || {
    date +%s >"$stage/since"
    create "$stage/since" "$ca" "$trusted_since"
  }
  echo "every one of $(grep -c . "$stage/servers") servers accepts a certificate of the next $name"
done
