using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Null.State;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>A context: variables that code sets and reads.</summary>
internal sealed class NullContext(CreateContext request, uint pid)
{
    public NullContext(ContextState state)
        : this(CreateContext.Parser.ParseFrom(state.Request), 0)
    {
        Variables = state.Variables;
        ExecutionCount = state.ExecutionCount;
    }

    public string Id => request.ContextId;

    public Dictionary<string, string> Variables { get; private set; } = new(StringComparer.Ordinal);

    public uint ExecutionCount { get; set; }

    /// <summary>Its interpreter was killed: the next code finds a fresh one.</summary>
    public void Lose() => (Variables, ExecutionCount) = (new(StringComparer.Ordinal), 0);

    public Context Describe(bool busy) => new()
    {
        ContextId = Id,
        Language = request.Language,
        Cwd = request.Cwd.Length > 0 ? request.Cwd : NullDisk.Home,
        Pid = pid,
        Busy = busy,
    };

    public ContextState Save() => new(request.ToByteArray(), new(Variables, StringComparer.Ordinal), ExecutionCount);
}
