# A container runtime that does not answer is found before anything is replaced, not when a
# component is to be restarted with it.
containers kube-apiserver >/dev/null || fail 'the container runtime cannot be asked for its containers'
