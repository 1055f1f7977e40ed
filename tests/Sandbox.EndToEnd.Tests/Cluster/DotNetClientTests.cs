using System.Security.Cryptography;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Cluster;

/// <summary>The .NET client from a process of its own, over Orleans, to a real server with real machines.</summary>
public sealed class DotNetClientTests
{
    [Fact]
    public async Task An_Orleans_client_has_all_of_a_session()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        await using var server = await SandboxServer.StartAsync(null, [.. await ClusterArguments.MakeAsync(postgres, redis), "--host-id", "host-of-the-client"]);
        await using var cluster = await ClusterClient.ConnectAsync(redis);
        var sandbox = cluster.Of("a-tenant");

        var session = await sandbox.StartSessionAsync(new CreateSessionRequest { Env = { ["GREETING"] = "hello" } });
        var (stdout, stderr, exit) = await (await session.StartShellAsync("echo $GREETING; echo trouble >&2; exit 4")).CollectAsync();
        Assert.Equal(("hello\n", "trouble\n", 4), (stdout, stderr, exit.ExitCode));
        await FilesAsync(session);
        await ArtifactAsync(session);
        await PortAsync(session);

        // Another tenant's session does not exist.
        var stranger = cluster.Of("another-tenant");
        var refused = await Assert.ThrowsAsync<SandboxException>(() => stranger.GetSession(session.Id).GetAsync());
        Assert.Equal(SandboxErrorCode.NotFound, refused.Code);

        // Paused, woken by a call, and forked: variables and files are there.
        await (await session.StartCodeAsync("x = 41")).WaitForExitAsync();
        Assert.Equal(SessionState.Paused, (await session.PauseAsync()).State);
        Assert.Equal("42\n", (await (await session.StartCodeAsync("print(x + 1)")).CollectAsync()).Stdout);
        var fork = Assert.Single(await session.ForkAsync());
        Assert.Equal("41\n", (await (await fork.StartCodeAsync("print(x)")).CollectAsync()).Stdout);
        await fork.TerminateAsync();
        await session.TerminateAsync();
    }

    private static async Task FilesAsync(SandboxSession session)
    {
        using var stop = new CancellationTokenSource(TimeSpan.FromMinutes(1));
        await session.Files.MakeDirectoryAsync("/home/user/watched");
        var begun = new TaskCompletionSource();
        var seen = WatchAsync(session, begun, stop.Token);
        await begun.Task.WaitAsync(stop.Token);
        var content = RandomNumberGenerator.GetBytes(3_000_000);
        await session.Files.WriteAsync("/home/user/watched/up", content);
        Assert.Equal("/home/user/watched/up", (await seen).Path);
        Assert.Equal(content, await session.Files.ReadAsync("/home/user/watched/up"));
    }

    private static async Task<FileEvent> WatchAsync(SandboxSession session, TaskCompletionSource begun, CancellationToken cancellationToken)
    {
        await foreach (var page in session.Files.WatchPagesAsync("/home/user/watched", cancellationToken: cancellationToken))
        {
            begun.TrySetResult();
            if (page.Events.FirstOrDefault(e => e.Path.EndsWith("/up", StringComparison.Ordinal)) is { } found)
            {
                return found;
            }
        }

        throw new InvalidOperationException("The watch ended.");
    }

    private static async Task ArtifactAsync(SandboxSession session)
    {
        var execution = await session.StartAsync(new ExecutionRequest { Shell = "head -c 400000 /dev/urandom > plot.bin; sha256sum < plot.bin", Artifacts = true });
        var output = new StringBuilder();
        ArtifactData? artifact = null;
        await foreach (var e in execution.ReadOutputAsync())
        {
            if (e.Kind == OutputKind.Artifact)
            {
                artifact = e.ReadArtifact();
            }
            else if (e.Kind == OutputKind.Stdout)
            {
                output.Append(Encoding.UTF8.GetString(e.Data));
            }
        }

        Assert.NotNull(artifact?.Id);
        using var downloaded = new MemoryStream();
        var entry = await session.DownloadArtifactAsync(artifact.Id, downloaded);
        Assert.Equal(400_000, entry.Size);
        Assert.StartsWith(Convert.ToHexStringLower(SHA256.HashData(downloaded.ToArray())), output.ToString(), StringComparison.Ordinal);
    }

    private static async Task PortAsync(SandboxSession session)
    {
        var server = await session.StartCommandAsync(["python3", "-c", "import socket\ns = socket.create_server(('127.0.0.1', 7000))\nprint('up', flush=True)\nc, _ = s.accept()\nc.sendall(c.recv(100).upper())\nc.close()"]);
        await foreach (var _ in server.ReadOutputAsync())
        {
            break;
        }

        await using var port = await session.OpenPortAsync(7000);
        await port.WriteAsync("spoken"u8.ToArray());
        using var heard = new StreamReader(port);
        Assert.Equal("SPOKEN", await heard.ReadToEndAsync());
        Assert.Equal(0, (await server.WaitForExitAsync()).ExitCode);
        var nobody = await Assert.ThrowsAsync<SandboxException>(() => session.OpenPortAsync(7001));
        Assert.Equal(SandboxErrorCode.NotFound, nobody.Code);
    }
}
