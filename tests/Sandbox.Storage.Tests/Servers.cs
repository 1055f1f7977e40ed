using Sandbox.Storage.Tests;
using Sandbox.TestSupport;
using Xunit;

[assembly: AssemblyFixture(typeof(Servers))]

namespace Sandbox.Storage.Tests;

/// <summary>One PostgreSQL and one Redis for all tests, started when the first asks.</summary>
public sealed class Servers : IAsyncDisposable
{
    private readonly Lazy<Task<PostgresServer>> _postgres = new(PostgresServer.StartAsync);
    private readonly Lazy<Task<RedisServer>> _redis = new(RedisServer.StartAsync);

    public Task<PostgresServer> PostgresAsync()
    {
        Assert.SkipWhen(PostgresServer.Missing is not null, PostgresServer.Missing ?? "");
        return _postgres.Value;
    }

    public Task<RedisServer> RedisAsync()
    {
        Assert.SkipWhen(RedisServer.Missing is not null, RedisServer.Missing ?? "");
        return _redis.Value;
    }

    public async ValueTask DisposeAsync()
    {
        if (_postgres.IsValueCreated)
        {
            await (await _postgres.Value).DisposeAsync();
        }

        if (_redis.IsValueCreated)
        {
            await (await _redis.Value).DisposeAsync();
        }
    }
}
