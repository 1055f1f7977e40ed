using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Bench.Benches;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Qemu.Qmp;

namespace Sandbox.Bench.Machines;

/// <summary>
/// A QEMU process and nothing around it: no cgroup, no user of its own, no reseed, no record on disk. What the machine itself costs; all baselines of machines are this.
/// </summary>
internal sealed class RawMachine : IAsyncDisposable
{
    private const string Script =
        """
        set -e
        exec 3<"$RAW_KERNEL" 4<"$RAW_INITRAMFS" 5<"$RAW_ROOT" 6<>"$RAW_DISK"
        if [ -n "$RAW_MEMORY" ]; then exec 7<>"$RAW_MEMORY"; fi
        if [ -n "$RAW_STATE" ]; then exec 8<"$RAW_STATE"; fi
        exec setsid setpriv --pdeathsig KILL "$@"
        """;

    /// <summary>How long a start may take before it counts as hung: as long as a boot of the backend may.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);

    private static int _next;
    private readonly string _directory;
    private readonly ConsoleTail _console = new();
    private readonly ConsoleTail _errors = new(4096);
    private Task _drained = Task.CompletedTask;
    private Process? _process;
    private QmpClient? _qmp;
    private GuestConnection? _guest;

    private RawMachine(string directory) => _directory = directory;

    /// <summary>The agent inside.</summary>
    public IGuest Guest => _guest!;

    /// <summary>Its disk; goes with it.</summary>
    public string Disk => Path.Combine(_directory, "disk.img");

    /// <summary>Where <see cref="SaveAsync"/> writes; goes with it.</summary>
    public string Saved => Path.Combine(_directory, "saved");

    /// <summary>A clone of the golden snapshot, running.</summary>
    /// <exception cref="BenchException">It did not start or did not answer in time, with the last lines of its console. The other two ways to start one fail alike.</exception>
    public static Task<RawMachine> CloneAsync(RawRecipe recipe, CancellationToken cancellationToken) =>
        StartAsync(recipe, RawStart.Clone, recipe.Disk, recipe.Devices, null, Deadline, cancellationToken);

    /// <summary>A machine that <see cref="SaveAsync"/> has saved, running again. <paramref name="spawned"/> is called when the disk is in place and the clock may start.</summary>
    public static Task<RawMachine> RestoreAsync(RawRecipe recipe, string disk, string state, Action spawned, CancellationToken cancellationToken) =>
        StartAsync(recipe, RawStart.Restore, disk, state, spawned, Deadline, cancellationToken);

    /// <summary>A machine that boots; returns when its agent has answered.</summary>
    public static Task<RawMachine> BootAsync(RawRecipe recipe, Action spawned, CancellationToken cancellationToken, TimeSpan? deadline = null) =>
        StartAsync(recipe, RawStart.Boot, recipe.Disk, null, spawned, deadline ?? Deadline, cancellationToken);

    /// <summary>Lets a clone run what it will have to run, as the warm pool does, and stops it.</summary>
    public async Task ParkAsync(CancellationToken cancellationToken)
    {
        await GuestRuns.RunAsync(Guest, ["/bin/sh", "-c", "echo"], null, cancellationToken);
        await GuestRuns.SettleAsync(Guest, cancellationToken);
        await StopAsync(cancellationToken);
    }

    /// <summary>Stops its CPUs.</summary>
    public Task StopAsync(CancellationToken cancellationToken) => _qmp!.ExecuteAsync("stop", null, cancellationToken);

    /// <summary>Lets them run on.</summary>
    public Task ContinueAsync(CancellationToken cancellationToken) => _qmp!.ExecuteAsync("cont", null, cancellationToken);

    /// <summary>Stops it and writes all of it to <see cref="Saved"/>: QEMU's plain migration, as fast as it goes.</summary>
    public async Task SaveAsync(CancellationToken cancellationToken)
    {
        await StopAsync(cancellationToken);
        await IgnoreSharedAsync(_qmp!, false, cancellationToken);
        await _qmp!.ExecuteAsync("migrate-set-parameters", new Dictionary<string, object> { ["max-bandwidth"] = 100L << 30 }, cancellationToken);
        var path = Path.Combine(_directory, "state");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen(1);
        await _qmp.ExecuteAsync("migrate", new Dictionary<string, object> { ["uri"] = "unix:" + path }, cancellationToken);
        await using (var stream = new NetworkStream(await listener.AcceptAsync(cancellationToken), ownsSocket: true))
        await using (var file = File.Create(Saved))
        {
            await stream.CopyToAsync(file, cancellationToken);
        }

        await UntilAsync(async () => Text(await _qmp.ExecuteAsync("query-migrate", null, cancellationToken)) switch
        {
            "completed" => true,
            "failed" or "cancelled" => throw new BenchException("QEMU could not save a raw machine"),
            _ => false,
        }, cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_process is not null)
        {
            _process.Kill();
            await _process.WaitForExitAsync();

            // What it said last is still in the pipes, but somebody else may hold their other ends.
            await Task.WhenAny(_drained, Task.Delay(TimeSpan.FromSeconds(1)));
            _process.Dispose();
        }

        await (_guest?.DisposeAsync() ?? ValueTask.CompletedTask);
        await (_qmp?.DisposeAsync() ?? ValueTask.CompletedTask);
        Directory.Delete(_directory, recursive: true);
    }

    private static async Task<RawMachine> StartAsync(
        RawRecipe recipe, RawStart start, string disk, string? state, Action? spawned, TimeSpan deadline, CancellationToken cancellationToken)
    {
        var machine = new RawMachine(Path.Combine(recipe.Directory, string.Create(CultureInfo.InvariantCulture, $"raw{Interlocked.Increment(ref _next)}")));
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        try
        {
            await machine.PlaceDiskAsync(disk, cancellationToken);
            limit.CancelAfter(deadline);
            spawned?.Invoke();
            await machine.BringUpAsync(recipe, start, state, deadline, limit.Token);
            return machine;
        }
        catch (Exception e)
        {
            // Before it is disposed: a machine that stands still says so only while it is there.
            var hung = limit.IsCancellationRequested;
            var status = await machine.StatusAsync();
            await machine.DisposeAsync();
            cancellationToken.ThrowIfCancellationRequested();
            var what = hung ? string.Create(CultureInfo.InvariantCulture, $"did not answer within {deadline.TotalSeconds:0.#} s") : $"did not start: {e.Message.TrimEnd('.')}";
            throw new BenchException($"a raw machine ({start.ToString().ToLowerInvariant()}) {what}{machine.LastWords(status)}", e);
        }
    }

    private async Task PlaceDiskAsync(string disk, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(_directory);
        using var copy = Process.Start("cp", ["--sparse=always", "--reflink=auto", disk, Disk]);
        await copy.WaitForExitAsync(cancellationToken);
        if (copy.ExitCode != 0)
        {
            throw new BenchException($"cp could not copy {disk}");
        }
    }

    private async Task BringUpAsync(RawRecipe recipe, RawStart start, string? state, TimeSpan deadline, CancellationToken cancellationToken)
    {
        _process = await Spawner.StartAsync(Prepare(recipe, start, state));
        _process.StandardInput.Close();
        var errors = _errors.DrainAsync(_process.StandardError.BaseStream);
        _drained = Task.WhenAll(errors, _console.DrainAsync(_process.StandardOutput.BaseStream));
        _qmp = await UntilListeningAsync(() => QmpClient.ConnectAsync(Path.Combine(_directory, "qmp"), (_, _) => { }, cancellationToken), errors, cancellationToken);
        var channel = await UntilListeningAsync(() => ConnectAsync(Path.Combine(_directory, "agent"), cancellationToken), errors, cancellationToken);
        if (start == RawStart.Clone)
        {
            await IgnoreSharedAsync(_qmp, true, cancellationToken);
            await _qmp.ExecuteAsync("migrate-incoming", new Dictionary<string, object> { ["uri"] = RawArguments.StateFd }, cancellationToken);
        }

        if (start != RawStart.Boot)
        {
            await UntilAsync(async () => Text(await _qmp.ExecuteAsync("query-status", null, cancellationToken)) is not "inmigrate", cancellationToken);
            await _qmp.ExecuteAsync("cont", null, cancellationToken);
        }

        // The deadline of the start is over first; this one is only not to be the shorter.
        var options = new GuestConnectionOptions { HelloDeadline = deadline * 2, HelloInterval = TimeSpan.FromMilliseconds(250) };
        _guest = await GuestConnection.ConnectAsync(channel, "raw", options, NullLogger.Instance, cancellationToken);
    }

    /// <summary>What QEMU calls the state it is in; empty if it does not say.</summary>
    private async Task<string> StatusAsync()
    {
        if (_qmp is null)
        {
            return "";
        }

        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
            return Text(await _qmp.ExecuteAsync("query-status", null, limit.Token));
        }
        catch (Exception e) when (e is IOException or QmpException or OperationCanceledException or ObjectDisposedException)
        {
            return "";
        }
    }

    /// <summary>What there is to say of a machine that did not start, for people.</summary>
    private string LastWords(string status)
    {
        if (_process is null)
        {
            return "";
        }

        var (errors, console) = (_errors.Read(), _console.Read());
        return (status.Length > 0 ? $"; QEMU is '{status}'" : "")
            + (errors.Length > 0 ? $"; QEMU said: {errors}" : "")
            + (console.Length > 0 ? $"; its console ended with:\n{console}" : "; its console said nothing");
    }

    private ProcessStartInfo Prepare(RawRecipe recipe, RawStart kind, string? state)
    {
        var start = new ProcessStartInfo("/bin/sh") { WorkingDirectory = "/", RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["RAW_KERNEL"] = recipe.Kernel;
        start.Environment["RAW_INITRAMFS"] = recipe.Initramfs;
        start.Environment["RAW_ROOT"] = recipe.Root;
        start.Environment["RAW_DISK"] = Disk;
        start.Environment["RAW_MEMORY"] = kind == RawStart.Clone ? recipe.Memory : "";
        start.Environment["RAW_STATE"] = state ?? "";
        // A recipe with a network makes its tap where the machine runs; each has a place of its own for it, with nothing else in it.
        string[] apart = recipe.Arguments.Any(a => a.StartsWith("tap,", StringComparison.Ordinal)) ? ["unshare", "--net", "--"] : [];
        foreach (var argument in (string[])["-c", Script, "raw", .. apart, recipe.Binary, .. RawArguments.Of(recipe.Arguments, _directory, recipe.MemoryMiB, kind)])
        {
            start.ArgumentList.Add(argument);
        }

        return start;
    }

    private static Task IgnoreSharedAsync(QmpClient qmp, bool on, CancellationToken cancellationToken) => qmp.ExecuteAsync(
        "migrate-set-capabilities",
        new Dictionary<string, object> { ["capabilities"] = new[] { new Dictionary<string, object> { ["capability"] = "x-ignore-shared", ["state"] = on } } },
        cancellationToken);

    private static string Text(JsonElement status) => status.TryGetProperty("status", out var text) ? text.GetString() ?? "" : "";

    private static async Task<T> UntilListeningAsync<T>(Func<Task<T>> connect, Task errors, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await connect();
            }
            catch (SocketException)
            {
                // It closes its standard error when it ends, and not before.
                if (errors.IsCompleted)
                {
                    throw new BenchException("it ended at once");
                }

                await Task.Delay(2, cancellationToken);
            }
        }
    }

    private static async Task UntilAsync(Func<Task<bool>> holds, CancellationToken cancellationToken)
    {
        while (!await holds())
        {
            await Task.Delay(1, cancellationToken);
        }
    }

    private static async Task<Stream> ConnectAsync(string path, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
