# What the guest's outer shell learns before its first command. It is sent as one single-quoted word, without comments and
# indentation, so it holds no single quotes. `_hb_i`, the name of the session, is set before.
#
# Answers (wire.rs reads them; ^A is the byte 1):
#   <ID.SEQ LENGTH =:TEXT|ID.SEQ STATUS>            no more than 1024 bytes of output, none of them NUL
#   <ID.SEQ LENGTH ~:TEXT|ID.SEQ STATUS>            the same, with byte 30 for newline: each line would be a write of its own
#   <ID.SEQ LENGTH +:TEXT^ABASE64|ID.SEQ STATUS>    more output; the rest is in base64
#   <ID.SEQ LENGTH 0:TEXT^ABASE64|ID.SEQ STATUS>    the same, with a NUL between the two
#   ...|ID.SEQ !>                                   instead of a status: forget this output, another attempt follows
#   ...|ID.SEQ ?WHAT>                               instead of a status: WHAT is missing or does not work
#   <ID.SEQ go>  <ID.SEQ stop>                      to a file that is put: send it, do not send more of it
#
# Descriptors of the outer shell (they close when a program starts):
#   9  the reading end of the pipe that commands write to. It has a writer only as long as they hold it, so it ends with them.
#   6  the reading end of a pipe that nobody writes to. Its end says that base64 is done; and while the shell itself holds a
#      writer, to wait for it is to pause.
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

# Sends the output that was read and all that follows, until $2 if that is set or until _hb_e says that the time is up.
_hb_stream() {
    local _hb_b
    printf "<%s %d %s:%s\1" $1 ${#_hb_o} $_hb_k "$_hb_o"
    exec 8>/proc/self/fd/6
    base64 -w 0 <&9 &
    _hb_b=$!
    exec 8>&-
    if [[ $2 && ! $_hb_e ]]; then
        _hb_now
        _hb_left $2 || _hb_w=.01
        read -r -t $_hb_w -u 6
        (($? <= 128)) || _hb_e=1
    fi
    if [[ $_hb_e ]]; then
        _hb_kill TERM
        _hb_kill CONT
        if read -r -t 2 -u 6; (($? > 128)); then
            _hb_kill KILL
            if read -r -t 1 -u 6; (($? > 128)); then
                kill -KILL $_hb_b
                _hb_pipe 9
                return
            fi
        fi
    fi
    wait $_hb_b || { _hb_x=?base64; _hb_pipe 9; }
}

# Runs script $3 once, until $4 if that is set, and leaves its status in _hb_s. With $2 = f or e it runs in a fork of this shell,
# with x in a bash of its own; with e and x it may close its output and go on. The output is left in _hb_o, or was sent for answer
# $1 when _hb_k is not =. To read it with a timeout costs a second system call for each byte, so there is less of that.
_hb_try() {
    local _hb_j _hb_m _hb_e=
    _hb_o= _hb_k== _hb_x= _hb_s=
    exec 8>/proc/self/fd/9 || { _hb_x=?/proc; return; }
    set -m
    (
        set +m
        if [[ $_hb_l ]]; then LC_ALL=$_hb_l; else unset LC_ALL; fi
        [[ $2 != x ]] || exec bash -c "set -euo pipefail; $3"
        _hb_c=$3
        set --
        eval "set -euo pipefail; $_hb_c"
    ) </dev/null >&8 8>&- 6<&- 9<&- &
    _hb_j=$!
    set +m
    exec 8>&-
    _hb_m=1024
    [[ ! $4 ]] || { _hb_m=256; _hb_left $4 || _hb_w=.01; }
    IFS= read -r -d "" -n $_hb_m ${4:+-t $_hb_w} -u 9 _hb_o
    case $? in
    0) ((${#_hb_o} < _hb_m)) && _hb_k=0 || _hb_k=+ ;;
    1) ;;
    *) _hb_k=+ _hb_e=1 ;;
    esac
    [[ $_hb_k == = ]] || _hb_stream $1 $4
    if [[ $_hb_x ]]; then
        _hb_kill KILL
    elif [[ $2 != f && $4 && ! $_hb_e ]] && kill -0 $_hb_j 2>/dev/null; then
        _hb_now
        _hb_left $4 && _hb_gone $_hb_t || _hb_e=1
        if [[ $_hb_e ]]; then
            _hb_kill TERM
            _hb_kill CONT
            _hb_gone 200 || _hb_kill KILL
        fi
    fi
    if [[ $_hb_e ]]; then _hb_s=124; else wait $_hb_j 2>/dev/null; _hb_s=$?; fi
}

# Runs script $3 and answers with number $1. $2: as above. $4: timeout, or nothing. For a loop, $5: 0 to wait for success, 1 to
# wait for failure; $6: the pause; $7: when to begin the last attempt; $8: how long that may take.
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
        [[ $_hb_k == = ]] || printf "|%s !>" $_hb_n
        ((_hb_t < $6)) || printf -v _hb_w %d.%02d $(($6 / 100)) $(($6 % 100))
        exec 8>/proc/self/fd/6
        read -r -t $_hb_w -u 6
        exec 8>&-
    done
    if [[ $_hb_k == = ]]; then
        [[ $_hb_o != *$_hb_nl* || $_hb_o == *$_hb_rs* ]] || _hb_k=\~ _hb_o=${_hb_o//$_hb_nl/$_hb_rs}
        printf "<%s %d %s:%s|%s %s>" $_hb_n ${#_hb_o} $_hb_k "$_hb_o" $_hb_n ${_hb_x:-$_hb_s}
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

[[ ${_hb_l+set} ]] || _hb_l=${LC_ALL-}
LC_ALL=C
BASH_ARGV0=bash
_hb_nl="
"
printf -v _hb_rs "\36"
_hb_pipe 9
_hb_pipe 6
