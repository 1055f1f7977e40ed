using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>Lets an external Orleans client follow live output.</summary>
public static class SandboxStreamsExtensions
{
    /// <summary>Adds the streams that carry live output. Without them output is followed by long polling: a little later, never less.</summary>
    public static IClientBuilder AddSandboxStreams(this IClientBuilder client)
    {
        ArgumentNullException.ThrowIfNull(client);
        return client.AddMemoryStreams(OutputStreams.Provider, streams => streams.ConfigurePartitioning(OutputStreams.Queues));
    }
}
