using Sandbox.Abstractions;

namespace Sandbox.Egress.Log;

/// <summary>Takes what happens, from many connections at once. Never blocks and never fails its caller; numbers and times are given by it.</summary>
public interface IEgressLog
{
    /// <summary>Notes one thing. Floods of equal ones are thinned (<see cref="EgressRecord.Count"/>).</summary>
    void Write(EgressRecord record);
}
