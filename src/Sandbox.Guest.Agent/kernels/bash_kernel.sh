# The Bash kernel of a context: the start-up file of an interactive shell that reads one request a line from its standard input, so that
# variables, functions and the directory persist, and an interrupt ends the code and not the shell. It answers in JSON lines on descriptor 4;
# before each answer it marks both outputs (through 198 and 199, which stay the pipes wherever the user sends 1 and 2).
exec 198>&1 199>&2 3<&-
set +m +H
unset HISTFILE
HISTSIZE=0
__sbx_marker=
__sbx_begin() {
    __sbx_marker=$1
    PROMPT_COMMAND=__sbx_interrupted
}
__sbx_done() {
    local code=$1
    printf '\0%s\0' "$__sbx_marker" >&198
    printf '\0%s\0' "$__sbx_marker" >&199
    __sbx_marker=
    PS1= PS2=
    printf '{"type":"done","code":%d}\n' "$code" >&4
}
# Comes before each prompt: the marker is still there only if an interrupt has thrown the rest of the line away.
__sbx_interrupted() {
    local code=$?
    [ -z "$__sbx_marker" ] || __sbx_done "$code"
}
PS1= PS2=
PROMPT_COMMAND='PROMPT_COMMAND=__sbx_interrupted; printf "{\"type\":\"ready\"}\n" >&4'
