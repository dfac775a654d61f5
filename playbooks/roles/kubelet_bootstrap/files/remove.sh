# Removes the kubeconfig of the bootstrap, and with it this node's copy of the token.
bootstrap_gone
