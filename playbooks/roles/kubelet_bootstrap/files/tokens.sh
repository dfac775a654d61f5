# Deletes bootstrap tokens that interrupted runs left behind, on a control plane
# node, before this one makes any. Names and descriptions are asked for, never a
# token. A control plane that cannot be asked is no failure: tokens end by themselves.
secrets() { kubectl --kubeconfig "$conf/admin.conf" --request-timeout=10s -n kube-system "$@"; }
for name in $(secrets get secrets --field-selector type=bootstrap.kubernetes.io/token \
  -o 'jsonpath={range .items[*]}{.metadata.name}/{.data.description}{"\n"}{end}'); do
  case $(printf '%s' "${name#*/}" | base64 -d) in
  'kscertctl '*) ;;
  *) continue ;;
  esac
  checking "delete ${name%/*}" && continue
  quietly secrets delete secret "${name%/*}" --ignore-not-found
  changed "deleted ${name%/*}"
done
