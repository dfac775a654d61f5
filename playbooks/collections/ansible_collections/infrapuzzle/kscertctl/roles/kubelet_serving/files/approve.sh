# Approves the serving certificates that kubelets request, on a control plane node, once they ask.
# KSCERT_NODES lists the nodes, one per line: "NAME NAMES AND ADDRESSES" as the inventory has them;
# KSCERT_ELAPSED_SECONDS ago, none of their kubelets had been restarted.
# A request is approved if the node itself made it, for names and addresses in both the inventory
# and the Node object, which the node writes (Kubernetes documentation, "Certificate signing
# requests", kubelet-serving). Anything else pending under the node's name is left alone and
# reported with the reason.
kubectl_() { kubectl --kubeconfig "$administrator" --request-timeout=10s "$@"; }
left() { printf 'left: %s\n' "$*" | tr -cd '[:print:]\n'; }

# canonical: addresses on standard input as openssl writes them, for IPv6 in eight groups without
# leading zeros.
canonical() {
  tr '[:lower:]' '[:upper:]' | awk -F: '
    !/:/ {print; next}
    {
      out = ""; missing = 8 - NF; doubled = 0
      for (i = 1; i <= NF; i++) {
        if ($i == "" && !doubled && (i > 1 || $2 == "")) {
          doubled = 1
          for (k = 0; k <= missing; k++) out = out ":0"
          continue
        }
        sub(/^0+/, "", $i); out = out ":" ($i == "" ? "0" : $i)
      }
      print substr(out, 2)
    }'
}

# of_node TYPES: the addresses of these types that the Node object has.
of_node() { sed -nE "s/^($1) //p" "$stage/addresses"; }

# of_inventory: the names and addresses of the inventory, one per line.
of_inventory() { printf '%s\n' "$node $allowed" | tr ' ' '\n'; }

# wrong: why the request in $stage/fields must not be approved; nothing if it may be.
wrong() {
  # The requester chooses some of them: a line break must not turn one field into two.
  [ "$(wc -l <"$stage/fields")" -eq 7 ] || { echo 'its fields cannot be separated' && return; }
  [ "$signer" = kubernetes.io/kubelet-serving ] || { echo "its signer is $signer" && return; }
  [ "$username" = "system:node:$node" ] || { echo "$username asks for it" && return; }
  case " $groups " in *' system:nodes '*) ;; *) echo "who asks is not in system:nodes, but in $groups" && return ;; esac
  case $(printf '%s' "$usages" | tr , '\n' | sed '/^$/d' | LC_ALL=C sort | tr '\n' ,) in
  'digital signature,key encipherment,server auth,' | 'digital signature,server auth,') ;;
  *) echo "its usages are $usages" && return ;;
  esac
  printf '%s' "$request" | base64 -d >"$stage/request" 2>/dev/null || { echo 'it is not base64' && return; }
  plain "$stage/request" || { echo 'it is not one request and nothing else, in PEM' && return; }
  openssl req -in "$stage/request" -noout -verify 2>&1 | grep -q 'verify OK' ||
    { echo 'it is not signed by its own key' && return; }
  # The API server parses the text again: it must be one block for every parser.
  cat "$stage/request" >"$stage/asked"
  { alone req "$stage/request" && cmp -s "$stage/request" "$stage/asked"; } ||
    { echo 'it is not one request and nothing else, in PEM' && return; }
  names "$stage/request" >"$stage/names"
  subject=$(sed -n '1s/^subject=//p' "$stage/names")
  case $subject in
  "O=system:nodes,CN=system:node:$node" | "CN=system:node:$node,O=system:nodes") ;;
  *) echo "its subject is $subject" && return ;;
  esac
  sed 1d "$stage/names" >"$stage/sans"
  [ -s "$stage/sans" ] || { echo 'it names neither a DNS name nor an address' && return; }
  while IFS= read -r san; do
    where=
    case $san in
    DNS:*)
      of_node 'Hostname|InternalDNS|ExternalDNS' | grep -Fxiq -e "${san#DNS:}" || where="Node object"
      of_inventory | grep -Fxiq -e "${san#DNS:}" || where="${where:-inventory}"
      ;;
    IPAddress:*)
      of_node 'InternalIP|ExternalIP' | canonical | grep -Fxq -e "${san#IPAddress:}" || where="Node object"
      of_inventory | canonical | grep -Fxq -e "${san#IPAddress:}" || where="${where:-inventory}"
      ;;
    *) where="Node object" ;;
    esac
    [ -z "$where" ] || { echo "it names $san, which is no address of node $node in the $where" && return; }
  done <"$stage/sans"
}

# approve NODE: approves its request; succeeds if one is approved.
approve() {
  kubectl_ get node "$1" -o 'jsonpath={range .status.addresses[*]}{.type}{" "}{.address}{"\n"}{end}' \
    >"$stage/addresses" 2>"$stage/message" ||
    { left "the API does not return the addresses of node $1: $(cat "$stage/message")" && return; }
  asked=$(kubectl_ get certificatesigningrequests \
    -o "jsonpath={range .items[?(@.spec.username==\"system:node:$1\")]}{.metadata.name}{\"\\n\"}{end}" \
    2>"$stage/message") ||
    { left "the API does not return the requests of node $1: $(cat "$stage/message")" && return; }
  columns='{.spec.signerName}{"\n"}{.status.conditions[*].type}{"\n"}{.metadata.creationTimestamp}{"\n"}'
  columns=$columns'{.spec.request}{"\n"}{range .spec.usages[*]}{@}{","}{end}{"\n"}{.spec.groups[*]}{"\n"}'
  columns=$columns'{.spec.username}{"\n"}'
  approved=
  for name in $asked; do
    kubectl_ get certificatesigningrequests "$name" -o "jsonpath=$columns" >"$stage/fields" 2>/dev/null || continue
    signer='' conditions='' created='' request='' usages='' groups='' username=''
    {
      IFS= read -r signer && IFS= read -r conditions && IFS= read -r created && IFS= read -r request &&
        IFS= read -r usages && IFS= read -r groups && IFS= read -r username
    } <"$stage/fields" || :
    case $conditions in
    '') ;;
    *Approved*) # by another approver, just now
      if [ "$signer" = kubernetes.io/kubelet-serving ] &&
        [ "$(printf '%s\n%s\n' "$since" "$created" | LC_ALL=C sort | head -n 1)" = "$since" ]; then
        approved=$name
      fi
      continue
      ;;
    *) continue ;;
    esac
    why=$(wrong)
    if [ -n "$why" ]; then
      case $reported in
      *" $name "*) ;;
      *) reported="$reported$name " && left "$name, under the name of node $1: $why" ;;
      esac
      continue
    fi
    if kubectl_ certificate approve "$name" >/dev/null 2>"$stage/message"; then
      approved=$name
      changed "approved $name, the serving certificate of node $1"
    else
      left "$name, of node $1, could not be approved: $(cat "$stage/message")" && return
    fi
  done
  [ -n "$approved" ]
}

open_stage "$conf"
printf '%s\n' "$KSCERT_NODES" >"$stage/nodes"
# An administrator who has deployed an approver has chosen what approves.
approver=$(kubectl_ get deployments,daemonsets -A -l app.kubernetes.io/name=kubelet-csr-approver -o name 2>/dev/null |
  head -n 1)
[ -z "$approver" ] ||
  { left "kubelet serving certificates, to $approver, which approves them in this cluster" && exit 0; }
# Another approver may have been faster. Requests since the kubelet's restart count: it waits for
# those, even if an earlier one got a certificate a minute ago.
since=$(date -u -d "@$(($(date +%s) - KSCERT_ELAPSED_SECONDS))" +%Y-%m-%dT%H:%M:%SZ)
deadline=$(($(date +%s) + KSCERT_WAIT_SECONDS))
reported=' '
while :; do
  : >"$stage/waiting"
  while read -r node allowed; do
    case $node in '' | *[!a-z0-9.-]*) fail "$node is not a name of a node" ;; esac
    approve "$node" </dev/null || printf '%s %s\n' "$node" "$allowed" >>"$stage/waiting"
  done <"$stage/nodes"
  mv "$stage/waiting" "$stage/nodes"
  [ -s "$stage/nodes" ] || exit 0
  if [ "$(date +%s)" -ge "$deadline" ]; then
    while read -r node _; do
      left "the kubelet of node $node has not asked for a serving certificate within $KSCERT_WAIT_SECONDS seconds" \
        "that may be approved"
    done <"$stage/nodes"
    exit 0
  fi
  sleep 1
done
