using System.Diagnostics;
using System.Net.Sockets;
using System.Reflection;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>One agent, started as a program on a unix socket, and a folder for its test.</summary>
public sealed class AgentFixture : IAsyncDisposable
{
    /// <summary>No step takes this long on a machine that works; it only keeps a broken one from hanging.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly List<GuestConnection> _connections = [];

    public AgentFixture()
    {
        Folder = Directory.CreateTempSubdirectory("agent-test-").FullName;

        // The agent serves its default user, who may be another than the one running the tests.
        File.SetUnixFileMode(Folder, (UnixFileMode)0x1ff);
        SocketPath = Path.Combine(Folder, "agent.sock");
        var agent = Path.Combine(
            typeof(AgentFixture).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "AgentFolder").Value!, "agent.dll");
        _process = Process.Start(new ProcessStartInfo("dotnet") { ArgumentList = { "exec", agent, "--socket", SocketPath }, RedirectStandardError = true })!;
        _process.ErrorDataReceived += (_, e) => TestContext.Current.TestOutputHelper?.WriteLine("agent: " + e.Data);
        _process.BeginErrorReadLine();
    }

    public string Folder { get; }

    public string SocketPath { get; }

    public bool IsAlive => !_process.HasExited;

    public long ResidentBytes
    {
        get
        {
            _process.Refresh();
            return _process.WorkingSet64;
        }
    }

    public async Task<GuestConnection> ConnectAsync()
    {
        var options = new GuestConnectionOptions { RequestTimeout = Patience, HelloDeadline = Patience, ReconnectWindow = Patience };
        var connection = await GuestConnection.ConnectAsync(OpenAsync, "test", options, NullLogger.Instance, CancellationToken.None);
        _connections.Add(connection);
        return connection;
    }

    public async ValueTask<Stream> OpenAsync(CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), cancellationToken);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var connection in _connections)
        {
            await connection.DisposeAsync();
        }

        _process.Kill(entireProcessTree: true);
        await _process.WaitForExitAsync();
        _process.Dispose();
        Directory.Delete(Folder, recursive: true);
    }
}
