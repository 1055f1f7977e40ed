# The Bash kernel of a context: one shell that evaluates what it is sent, so that variables, functions and the directory persist.
# JSON comes in on descriptor 3 and goes out on 4; python3 decodes it, once for each piece, because bash cannot.
trap ':' INT
__sbx_decode='
import json, shlex, sys
request = json.load(sys.stdin)
print("__sbx_marker=" + shlex.quote(request["marker"]))
print("__sbx_code=" + shlex.quote(request.get("code", "")))
print("__sbx_cwd=" + shlex.quote(request.get("cwd", "")))
print("__sbx_env=(" + " ".join(shlex.quote(n + "=" + v) for n, v in request.get("env", {}).items() if n.isidentifier()) + ")")
'
while IFS= read -r __sbx_line <&3; do
    eval "$(python3 -c "$__sbx_decode" <<<"$__sbx_line" 3<&- 4>&-)"
    [ -z "$__sbx_cwd" ] || cd "$__sbx_cwd"
    for __sbx_pair in "${__sbx_env[@]}"; do export "${__sbx_pair?}"; done
    eval "$__sbx_code" 3<&- 4>&-
    __sbx_status=$?
    printf '\0%s\0' "$__sbx_marker" >&1
    printf '\0%s\0' "$__sbx_marker" >&2
    printf '{"type":"done","code":%d}\n' "$__sbx_status" >&4
done
