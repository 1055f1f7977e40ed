using Npgsql;

namespace Sandbox.TestSupport;

/// <summary>
/// A PostgreSQL of a test's own: new data, a free port of the loopback, no password, no fsync. <c>await using</c> it; it also ends with the test process.
/// </summary>
public sealed class PostgresServer : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private readonly ServerDirectory _directory;
    private readonly string? _user;
    private ChildProcess? _process;
    private int _databases;

    private PostgresServer(ServerDirectory directory, string? user)
    {
        _directory = directory;
        _user = user;
    }

    /// <summary>Why it cannot run on this machine, or null if it can: <c>Assert.SkipWhen(PostgresServer.Missing is not null, …)</c>.</summary>
    public static string? Missing => FindBinaries() is null ? "PostgreSQL's server is not installed (apt-get install postgresql)" : null;

    /// <summary>The port of the loopback.</summary>
    public int Port { get; private set; }

    /// <summary>The server's process.</summary>
    public int ProcessId => _process!.Id;

    /// <summary>Its data and nothing else.</summary>
    public string DataDirectory => _directory.FullPath;

    /// <summary>The empty database that comes with it; see <see cref="CreateDatabaseAsync"/> for more.</summary>
    public string ConnectionString => ConnectionStringOf("postgres");

    /// <summary>Makes and starts a server, and returns when it answers.</summary>
    /// <exception cref="InvalidOperationException">It is not installed, or does not start; the message has its output.</exception>
    public static async Task<PostgresServer> StartAsync()
    {
        var binaries = FindBinaries() ?? throw new InvalidOperationException(Missing);

        // It refuses to run as root.
        var user = Environment.IsPrivilegedProcess ? "postgres" : null;
        var server = new PostgresServer(await ServerDirectory.CreateAsync("postgres", user), user);
        try
        {
            await ChildProcess.RunAsync(
                [Path.Combine(binaries, "initdb"), "--pgdata", server.DataDirectory, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"],
                user);
            await server.RunAsync(binaries, freshPort: true);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Makes an empty database and returns how to connect to it.</summary>
    public async Task<string> CreateDatabaseAsync()
    {
        var name = $"test_{Interlocked.Increment(ref _databases)}";
        await using var connection = new NpgsqlConnection(ConnectionString);
        await connection.OpenAsync();
#pragma warning disable CA2100 // The name is made here.
        await using var command = new NpgsqlCommand($"CREATE DATABASE {name}", connection);
#pragma warning restore CA2100
        await command.ExecuteNonQueryAsync();
        return ConnectionStringOf(name);
    }

    /// <summary>Stops it as a crash would, keeping its data and port. <see cref="StartAgainAsync"/> brings it back.</summary>
    public async Task CrashAsync() => await _process!.StopAsync(Signal.Quit, Patience);

    /// <summary>Starts it again on the same data and port.</summary>
    public async Task StartAgainAsync()
    {
        await _process!.DisposeAsync();
        await RunAsync(FindBinaries()!, freshPort: false);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            // QUIT, not KILL: it ends its own children and gives its shared memory back.
            await _process.StopAsync(Signal.Quit, Patience);
            await _process.DisposeAsync();
            NpgsqlConnection.ClearAllPools();
        }

        _directory.Dispose();
    }

    private async Task RunAsync(string binaries, bool freshPort)
    {
        for (var attempt = 1; ; attempt++)
        {
            Port = freshPort ? Loopback.FreePort() : Port;

            // Without fsync data still survives the server's death, though not the machine's.
            _process = await ChildProcess.StartAsync(
                [
                    Path.Combine(binaries, "postgres"), "-D", DataDirectory, "-p", $"{Port}",
                    "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
                    "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "lc_messages=C",
                ],
                _user,
                Signal.Quit);
            if (await AnswersAsync(_process))
            {
                return;
            }

            var output = _process.Output;
            await _process.DisposeAsync();
            if (attempt == 5 || !output.Contains("Address already in use", StringComparison.Ordinal))
            {
                throw new InvalidOperationException($"PostgreSQL did not start:{Environment.NewLine}{output}");
            }
        }
    }

    private async Task<bool> AnswersAsync(ChildProcess process)
    {
        using var patience = new CancellationTokenSource(Patience);
        while (!process.Exited.IsCompleted)
        {
            try
            {
                await using var connection = new NpgsqlConnection(ConnectionString + ";Pooling=false;Timeout=5");
                await connection.OpenAsync(patience.Token);
                return true;
            }
            catch (NpgsqlException)
            {
                await Task.WhenAny(process.Exited, Task.Delay(50, patience.Token));
                patience.Token.ThrowIfCancellationRequested();
            }
        }

        return false;
    }

    private string ConnectionStringOf(string database) => $"Host=127.0.0.1;Port={Port};Username=postgres;Database={database}";

    private static string? FindBinaries() =>
        (Directory.Exists("/usr/lib/postgresql") ? Directory.GetDirectories("/usr/lib/postgresql") : [])
            .OrderByDescending(d => int.TryParse(Path.GetFileName(d), out var version) ? version : 0)
            .Select(d => Path.Combine(d, "bin"))
            .Concat((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries))
            .FirstOrDefault(d => File.Exists(Path.Combine(d, "initdb")) && File.Exists(Path.Combine(d, "postgres")));
}
