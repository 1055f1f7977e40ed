#pragma warning disable CA1822
using Sandbox.Abstractions;
using Sandbox.E2b.Data;

namespace Sandbox.E2b.Interpreter;

/// <summary>Port 49999: code in contexts.</summary>
internal sealed class InterpreterPlane
{
    /// <summary>Serves a call.</summary>
    public Task HandleAsync(DataCall call) => throw SandboxException.NotFound($"There is nothing at {call.Context.Request.Path} of port {call.Port}.");
}
