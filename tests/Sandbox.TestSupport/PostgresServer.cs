using System.Diagnostics;
using System.Globalization;

namespace Sandbox.TestSupport;

/// <summary>A real PostgreSQL with an empty database, on a free loopback port.</summary>
public sealed class PostgresServer : IAsyncDisposable
{
    private const string User = "postgres";
    private readonly ChildServer _server;
    private readonly string _directory;

    private PostgresServer(ChildServer server, string directory, int port)
    {
        (_server, _directory) = (server, directory);
        ConnectionString = string.Create(CultureInfo.InvariantCulture, $"Host=127.0.0.1;Port={port};Username={User};Database=postgres;Maximum Pool Size=20");
    }

    /// <summary>As Npgsql takes it.</summary>
    public string ConnectionString { get; }

    /// <summary>Makes a cluster in a temporary directory and starts it.</summary>
    public static async Task<PostgresServer> StartAsync()
    {
        var bin = Directory.GetDirectories("/usr/lib/postgresql").Order(StringComparer.Ordinal).LastOrDefault() is { } version
            ? Path.Combine(version, "bin")
            : throw new InvalidOperationException("There is no PostgreSQL here; ./scripts/test installs it.");
        var directory = Directory.CreateTempSubdirectory("sandbox-pg-").FullName;
        var port = ChildServer.FreePort();
        if (Environment.IsPrivilegedProcess)
        {
            await RunAsync("chown", $"{User}:{User}", directory);
        }

        // PostgreSQL refuses to run as root.
        string[] identity = Environment.IsPrivilegedProcess ? ["setpriv", "--reuid", User, "--regid", User, "--clear-groups"] : ["env"];
        await RunAsync([.. identity, Path.Combine(bin, "initdb"), "-D", Path.Combine(directory, "data"), "-U", User, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]);
        var server = await ChildServer.StartAsync(
            User, Path.Combine(bin, "postgres"), "-D", Path.Combine(directory, "data"), "-p", port.ToString(CultureInfo.InvariantCulture),
            "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", $"unix_socket_directories={directory}");
        await server.UntilListeningAsync(port);

        // It listens a moment before it takes connections.
        await Task.Delay(300);
        return new PostgresServer(server, directory, port);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _server.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    private static async Task RunAsync(params string[] command)
    {
        using var process = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/tmp" })!;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"{string.Join(' ', command)} failed: {error}{await output}");
        }
    }
}
