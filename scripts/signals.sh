# Signals: what ends a script ends the run first, which saves what it has.
#
# Left alone, bash dies of SIGTERM or SIGUSR1 at once, and what it runs goes on without it.

child=   # of pass_signals, while it runs
signal=  # that came while it ran

on_signal() {
    [[ -n $child ]] || exit 75
    signal=$1
    kill "-$1" "$child" 2> /dev/null || true
}

trap 'on_signal TERM' TERM
trap 'on_signal USR1' USR1
trap 'exit 130' INT

# pass_signals COMMAND ...: run it; SIGTERM and SIGUSR1 to this script reach it. Returns its status.
pass_signals() {
    local status
    (trap - INT && exec "$@") <&0 &  # bash would have it ignore Ctrl-C
    child=$!
    trap 'signal=INT' INT  # a terminal sends it to both: the command says what becomes of it
    wait "$child" && status=0 || status=$?
    while kill -0 "$child" 2> /dev/null; do  # a signal that was passed on ended the wait
        wait "$child" && status=0 || status=$?
    done
    trap 'exit 130' INT
    child=
    case $signal in  # it ended by it, or before it came: what called it is to end in any case
        TERM | USR1) status=75 ;;
        INT) [[ $status -ne 0 ]] || status=130 ;;
    esac
    return "$status"
}
