using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Validation;

/// <summary>What a guest's <see cref="Hello"/> may hold. Every breach is a <see cref="ProtocolException"/>.</summary>
internal static class HelloRules
{
    /// <summary>Checks a hello that has the right epoch already. Its texts are made fit to be shown, in place.</summary>
    public static void Check(Hello hello)
    {
        if (hello.Version != ProtocolLimits.Version)
        {
            throw new ProtocolException(
                $"The guest's agent speaks version {hello.Version} of the protocol, this host version {ProtocolLimits.Version}. Build the template's image again.");
        }

        hello.AgentVersion = GuestText.Clean(hello.AgentVersion, 64);
        hello.BootId = GuestText.Clean(hello.BootId, 64);
        if (hello.Executions.Count > GuestLimits.MaxListedExecutions)
        {
            throw new ProtocolException($"A hello that lists {hello.Executions.Count} executions; allowed are {GuestLimits.MaxListedExecutions}.");
        }

        var streams = new HashSet<ulong>();
        foreach (var execution in hello.Executions)
        {
            GuestText.RequireAtMost(execution.ExecutionId, GuestLimits.MaxNameBytes, "An execution id");
            if (execution.Stream is 0 or > long.MaxValue || !streams.Add(execution.Stream) || execution.FirstRetainedSeq > execution.NextSeq || execution.NextSeq == 0)
            {
                throw new ProtocolException("A hello that lists an execution on an impossible stream, twice, or with impossible numbers.");
            }
        }
    }

    /// <summary>Checks that a surviving execution can go on where the host left it.</summary>
    /// <param name="listed">What the guest says of it.</param>
    /// <param name="executionId">The id the host gave it.</param>
    /// <param name="acknowledged">The last event the host has acknowledged.</param>
    /// <param name="received">The last event the host has.</param>
    public static void CheckSurvivor(RunningExecution listed, string executionId, ulong acknowledged, ulong received)
    {
        if (listed.ExecutionId != executionId)
        {
            throw new ProtocolException($"The guest gives stream {listed.Stream} to another execution.");
        }

        if (listed.FirstRetainedSeq > received + 1 || listed.NextSeq <= received)
        {
            throw new ProtocolException(
                $"The guest keeps events {listed.FirstRetainedSeq} to {listed.NextSeq} (exclusive) of an execution of which the host has {received} and acknowledged {acknowledged}.");
        }
    }
}
