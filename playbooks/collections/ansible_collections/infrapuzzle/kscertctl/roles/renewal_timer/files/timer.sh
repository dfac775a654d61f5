# Holds back the timer with which Kubespray renews and restarts everything on a control plane
# (roles/kubernetes/control-plane, auto_renew_certificates), or releases it. If no one releases it,
# a transient systemd timer does after a day, and so does a reboot: nothing of ours stays behind.
theirs=k8s-certs-renew.timer
ours=kscertctl-release-timer

case $KSCERT_TIMER_ACTION in
hold)
  # A timer that is held back already stays so for a day from now.
  systemctl is-active --quiet "$theirs" || systemctl is-active --quiet "$ours.timer" || exit 0
  ! checking "hold back $theirs" || exit 0
  systemctl stop "$ours.timer" 2>/dev/null || :
  # A release that failed would block the next one.
  systemctl reset-failed "$ours.service" 2>/dev/null || :
  message=$(systemd-run --quiet --unit="$ours" --on-active=1d systemctl start "$theirs" 2>&1 </dev/null) || {
    systemctl start "$theirs" 2>/dev/null || : # it may have been held back already
    fail "systemd-run cannot release $theirs after a day: $message"
  }
  quietly systemctl stop "$theirs"
  changed "$theirs is held back"
  ;;
release)
  systemctl is-active --quiet "$ours.timer" || exit 0
  ! checking "let $theirs go" || exit 0
  quietly systemctl start "$theirs"
  quietly systemctl stop "$ours.timer"
  changed "$theirs continues"
  ;;
*) fail "kscert_timer_action is $KSCERT_TIMER_ACTION: use hold or release" ;;
esac
