using Xunit;

namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>One server for all tests that do not kill it. Two microVMs at a time are what a small machine boots in reasonable time.</summary>
public sealed class ServerFixture : IAsyncLifetime
{
    public SandboxServer Server { get; private set; } = null!;

    public SandboxApi Api => Server.Api;

    public async ValueTask InitializeAsync() => Server = await SandboxServer.StartAsync();

    public async ValueTask DisposeAsync()
    {
        if (Server is not null)
        {
            await Server.DisposeAsync();
        }
    }
}

/// <summary>Tests that share <see cref="ServerFixture"/>; they run one after another.</summary>
[CollectionDefinition(Name)]
public sealed class ServerGroup : ICollectionFixture<ServerFixture>
{
    public const string Name = "one server";
}
