using Sandbox.Wasm.Worker.Running;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>A piece of code for an interpreter.</summary>
/// <param name="Source">The code.</param>
/// <param name="Directory">Where to go before; empty: stay.</param>
/// <param name="Environment">Variables that hold for this code alone.</param>
internal sealed record CodeRequest(string Source, string Directory, IReadOnlyDictionary<string, string> Environment);

/// <summary>A guest that keeps the variables of a context. One piece of code at a time.</summary>
internal abstract class Interpreter : IDisposable
{
    public abstract Run Run { get; }

    public abstract bool Alive { get; }

    /// <summary>How it ended; only once it has.</summary>
    public abstract GuestEnd End { get; }

    /// <summary>Whether an interrupt leaves its variables alone. Where it does not, an interrupt ends the interpreter.</summary>
    public abstract bool CanBeInterrupted { get; }

    /// <summary>Runs code to its end. Returns its exit code, or <see langword="null"/> if the interpreter ended instead.</summary>
    public abstract int? Evaluate(CodeRequest request, CodeSink sink);

    public void Interrupt()
    {
        if (CanBeInterrupted)
        {
            Run.Interrupt();
        }
        else
        {
            Run.Kill(2);
        }
    }

    public void Kill() => Run.Kill(9);

    public abstract void Dispose();
}
