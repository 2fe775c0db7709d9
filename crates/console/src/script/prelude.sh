# What the guest's outer shell learns before its first command. It is sent as one single-quoted word, without comments and
# indentation, so it holds no single quotes. `_hb_i`, the name of the session, is set before.
#
# Answers (wire.rs reads them):
#   <ID.SEQ LENGTH =:TEXT|ID.SEQ STATUS>          no more than 2048 bytes of output, none of them NUL
#   <ID.SEQ LENGTH +:TEXT BLOCKS|ID.SEQ STATUS>   more output; the rest is in blocks
#   <ID.SEQ LENGTH 0:TEXT BLOCKS|ID.SEQ STATUS>   the same, with a NUL between the two
#     TEXT: the output, with the bytes 30, 49 for newline (each line would be a write of its own) and 30, 48 for byte 30
#     a block: BYTES|ID.SEQ #COUNT>               as they are; after a full one, the host must say that it may go on
#              BYTES|ID.SEQ #->                   the last one, from a guest whose dd (busybox's) counts full blocks only
#              BYTES|ID.SEQ %COUNT>               in base64, from a guest without dd
#   ...|ID.SEQ !>                                 instead of a status: forget this output, another attempt follows
#   ...|ID.SEQ ?WHAT>                             instead of a status: WHAT is missing or does not work
#   <ID.SEQ go>  <ID.SEQ stop>                    to a file that is put: send it, do not send more of it
# The host says `: ID ok` to go on, and `: ID end` when it does not want the answer any more, and at the end of a file. Where nobody
# waits for that, it is a command that does nothing.
#
# QEMU drops what the host does not read in time. So no more is ever on its way than a socket holds, and all of it is counted.
#
# Descriptors of the outer shell (they close when a program starts):
#   9  the reading end of the pipe that commands write to. It has a writer only as long as they hold it, so it ends with them.
#   6  the reading end of a pipe for the shell's own processes: what they say, and that they are done. While the shell itself
#      holds a writer, to wait for it is to pause.
#   8  a writer of either, for a moment. It is opened anew through /proc, which costs no process.
#
# Times are in hundredths of a second since boot: the clock on the wall may jump.

_hb_pipe() {
    local -a _hb_c
    coproc _hb_c { read -r _; } 2>/dev/null
    eval "exec $1<&${_hb_c[0]}"
    echo >&${_hb_c[1]}
    wait $!
}

_hb_now() {
    read -r _hb_t _ </proc/uptime
    _hb_t=$((10#${_hb_t/./}))
}

# Turns _hb_t into the time from then to $1, and sets _hb_w to the same as `read -t` wants it. Fails if there is none left.
_hb_left() {
    ((_hb_t = $1 - _hb_t, _hb_t > 0)) || return 1
    printf -v _hb_w %d.%02d $((_hb_t / 100)) $((_hb_t % 100))
}

# Waits until the job is gone, for no longer than $1. It looks after 1 ms, 2 ms, 4 ms and so on.
_hb_gone() {
    local _hb_p=1 _hb_m=$(($1 * 10))
    exec 8>/proc/self/fd/6
    while kill -0 $_hb_j 2>/dev/null && ((_hb_m > 0)); do
        printf -v _hb_w .%03d $_hb_p
        read -r -t $_hb_w -u 6
        ((_hb_m -= _hb_p, _hb_p = _hb_p < 32 ? _hb_p * 2 : 50))
    done
    exec 8>&-
    ((_hb_m > 0))
}

# Sends a signal to all processes of the job.
_hb_kill() {
    kill -$1 -- -$_hb_j 2>/dev/null
}

# The time is up: ends the job, and at last the process $1 that reads its output. _hb_e counts these steps, _hb_w is how long to
# wait for the next.
_hb_expire() {
    case $((++_hb_e)) in
    1) _hb_kill TERM; _hb_kill CONT; _hb_w=2 ;;
    2) _hb_kill KILL; _hb_w=1 ;;
    *) kill -KILL $1; _hb_pipe 9 ;;
    esac
}

# Sets _hb_w for a wait until $1, if that is set.
_hb_time() {
    [[ $1 ]] && ((!_hb_e)) || return
    _hb_now
    _hb_left $1 || _hb_expire
}

# Waits until the process _hb_b is done, or until $1 if that is set, and leaves what it said in _hb_l.
_hb_done() {
    local _hb_r _hb_q=
    _hb_l=
    [[ $1 ]] || { wait $_hb_b; _hb_q=$?; }
    while :; do
        read -r -d "" ${1:+-t $_hb_w} -u 6 _hb_r
        (($? > 128)) || break
        _hb_l+=$_hb_r
        _hb_expire $_hb_b
    done
    _hb_l+=$_hb_r
    [[ $_hb_q ]] || ((_hb_e > 2)) || { wait $_hb_b; _hb_q=$?; }
    return ${_hb_q:-0}
}

_hb_text() {
    [[ $_hb_o == *[$_hb_nl$_hb_rs]* ]] || return
    _hb_o=${_hb_o//$_hb_rs/${_hb_rs}0}
    _hb_o=${_hb_o//$_hb_nl/${_hb_rs}1}
}

# Waits until the host lets it go on. Fails if the host wants no more.
_hb_ok() {
    local -a _hb_f
    mapfile -n 1 -t _hb_f
    [[ ${_hb_f[0]} == ": $_hb_i ok" ]]
}

# Sends the output that was read and all that follows, until $2 if that is set.
_hb_stream() {
    local _hb_b _hb_l _hb_c _hb_d=count=1
    _hb_text
    printf "<%s %d %s:%s" $1 ${#_hb_o} $_hb_k "$_hb_o"
    type -P dd >/dev/null || { _hb_base64 $1 $2; return; }
    while :; do
        exec 8>/proc/self/fd/6
        LC_ALL=C dd bs=65536 iflag=fullblock $_hb_d <&9 2>&8 &
        _hb_b=$!
        exec 8>&-
        _hb_time $2
        _hb_done $2 || { _hb_x=?dd; _hb_pipe 9; return; }
        [[ $_hb_d == count=1 ]] || return
        _hb_c=${_hb_l##*$_hb_nl}
        case ${_hb_c%% *} in
        1+0) _hb_c=65536 ;;
        0+0) _hb_c=0 ;;
        *+*) _hb_c=- ;;
        *) printf -v _hb_c %d ${_hb_c%% *} ;;
        esac
        printf "|%s #%s>" $1 $_hb_c
        [[ $_hb_c == 65536 ]] || return
        _hb_ok || _hb_d=of=/dev/null
    done
}

# The same without dd, and slower: the shell reads what base64 prints.
_hb_base64() {
    exec 8>/proc/self/fd/6
    base64 -w 0 <&9 >&8 &
    _hb_b=$!
    exec 8>&-
    while :; do
        _hb_time $2
        read -r ${2:+-t $_hb_w} -n 4096 -u 6 _hb_l
        _hb_c=$?
        [[ ! $_hb_l || ! $_hb_d ]] || printf "%s|%s %%%d>" "$_hb_l" $1 ${#_hb_l}
        case $_hb_c in
        0) [[ ! $_hb_d ]] || _hb_ok || _hb_d= ;;
        1) break ;;
        *) _hb_expire $_hb_b ;;
        esac
    done
    ((_hb_e > 2)) || wait $_hb_b || { _hb_x=?base64; _hb_pipe 9; }
}

# Runs script $3 once, until $4 if that is set, and leaves its status in _hb_s. With $2 = f or e it runs in a fork of this shell,
# with x in a bash of its own; with e and x it may close its output and go on. The output is left in _hb_o, or was sent for answer
# $1 when _hb_k is not =. To read it with a timeout costs a second system call for each byte, so there is less of that.
_hb_try() {
    local _hb_j _hb_e=0 _hb_m=2048
    _hb_o= _hb_k== _hb_x= _hb_s=
    exec 8>/proc/self/fd/9 || { _hb_x=?/proc; return; }
    set -m
    (
        set +m
        if [[ $_hb_locale ]]; then LC_ALL=$_hb_locale; else unset LC_ALL; fi
        [[ $2 != x ]] || exec bash -c "set -euo pipefail; $3"
        _hb_c=$3
        set --
        eval "set -euo pipefail; $_hb_c"
    ) </dev/null >&8 8>&- 6<&- 9<&- &
    _hb_j=$!
    set +m
    exec 8>&-
    [[ ! $4 ]] || { _hb_m=512; _hb_left $4 || _hb_w=.01; }
    IFS= read -r -d "" -n $_hb_m ${4:+-t $_hb_w} -u 9 _hb_o
    case $? in
    0) ((${#_hb_o} < _hb_m)) && _hb_k=0 || _hb_k=+ ;;
    1) ;;
    *) _hb_k=+; _hb_expire ;;
    esac
    [[ $_hb_k == = ]] || _hb_stream $1 $4
    if [[ $_hb_x ]]; then
        _hb_kill KILL
    elif [[ $4 ]] && { ((_hb_e)) || [[ $2 != f ]]; } && kill -0 $_hb_j 2>/dev/null; then
        ((_hb_e)) || { _hb_now; _hb_left $4 && _hb_gone $_hb_t || _hb_expire; }
        ((!_hb_e)) || _hb_gone 200 || _hb_kill KILL
    fi
    if ((_hb_e)); then _hb_s=124; else wait $_hb_j 2>/dev/null; _hb_s=$?; fi
}

# Runs script $3 and answers with number $1. $2: as above. $4: timeout, or nothing. For a loop, $5: 0 to wait for success, 1 to
# wait for failure; $6: the pause; $7: when to begin the last attempt; $8: how long that may take. The loop ends early when
# something comes from the host: it does not wait for the answer any more then.
_hb() {
    local _hb_n=$_hb_i.$1 _hb_end= _hb_stop _hb_o _hb_k _hb_x _hb_s _hb_t _hb_w
    [[ ! $5 ]] || { _hb_now; _hb_stop=$((_hb_t + $7)); }
    while :; do
        [[ ! $4$5 ]] || _hb_now
        [[ ! $4 ]] || _hb_end=$((_hb_t + $4))
        [[ ! $5 ]] || (($4 + 0 && _hb_end < _hb_stop + $8)) || _hb_end=$((_hb_stop + $8))
        _hb_try $_hb_n $2 "$3" $_hb_end
        [[ $5 && ! $_hb_x ]] && (((_hb_s != 0) != $5)) || break
        _hb_now
        _hb_left $_hb_stop || break
        ((_hb_t < $6)) || printf -v _hb_w %d.%02d $(($6 / 100)) $(($6 % 100))
        exec 8>/proc/self/fd/6
        read -r -t $_hb_w -u 6
        exec 8>&-
        ! read -t 0 || break
        [[ $_hb_k == = ]] || printf "|%s !>" $_hb_n
    done
    if [[ $_hb_k == = ]]; then
        _hb_text
        printf "<%s %d =:%s|%s %s>" $_hb_n ${#_hb_o} "$_hb_o" $_hb_n ${_hb_x:-$_hb_s}
    else
        printf "|%s %s>" $_hb_n ${_hb_x:-$_hb_s}
    fi
}

# Takes $2 bytes from the console into file $3, in chunks of $4 bytes that each follow a line with a plus, and answers with number
# $1. Whatever happens, it reads up to the line that says that the file is over. `mapfile` reads a terminal byte by byte and leaves
# what follows the line; `read` does not.
_hb_put() {
    local _hb_n=$_hb_i.$1 _hb_s=0 _hb_r=$2 _hb_c _hb_d=${3%/*}
    local -a _hb_f
    if [[ $3 == */* && ! -d ${_hb_d:-/} ]]; then mkdir -p -- "$_hb_d" </dev/null; fi
    type -P dd >/dev/null && exec 5>"$3" || { printf "<%s 0 =:|%s 1>" $_hb_n $_hb_n; return; }
    printf "<%s go>" $_hb_n
    while ((_hb_r > 0)); do
        mapfile -n 1 -t _hb_f
        [[ ${_hb_f[0]} == + ]] || { _hb_s=1; break; }
        ((_hb_c = _hb_r < $4 ? _hb_r : $4, _hb_r -= _hb_c))
        dd bs=$_hb_c count=1 iflag=fullblock status=none >&5 || { _hb_s=$?; printf "<%s stop>" $_hb_n; break; }
    done
    exec 5>&-
    until [[ ${_hb_f[0]} == *": $_hb_i end" ]]; do
        mapfile -n 1 -t _hb_f
        ((${#_hb_f[@]} > 0)) || break
    done
    printf "<%s 0 =:|%s %s>" $_hb_n $_hb_n $_hb_s
}

[[ ${_hb_locale+set} ]] || _hb_locale=${LC_ALL-}
LC_ALL=C
BASH_ARGV0=bash
_hb_nl="
"
printf -v _hb_rs "\36"
_hb_pipe 9
_hb_pipe 6
