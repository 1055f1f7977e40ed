using Sandbox.Abstractions;

namespace Sandbox.Gateway.Executions;

/// <summary>Where the facade gets output from: replay and live joined, without gap or repeat. The server plugs in Sandbox.Client.</summary>
public interface IOutputSource
{
    /// <summary>Events from a sequence number to the exit event.</summary>
    IAsyncEnumerable<OutputEvent> ReadAsync(string sessionId, string executionId, long fromSeq, CancellationToken cancellationToken);
}
