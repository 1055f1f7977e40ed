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

    private static int _next;
    private readonly string _directory;
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
    public static Task<RawMachine> CloneAsync(RawRecipe recipe, CancellationToken cancellationToken) => StartAsync(recipe, recipe.Disk, recipe.Memory, recipe.Devices, null, cancellationToken);

    /// <summary>A machine that <see cref="SaveAsync"/> has saved, running again. <paramref name="spawned"/> is called when the disk is in place and the clock may start.</summary>
    public static Task<RawMachine> RestoreAsync(RawRecipe recipe, string disk, string state, Action spawned, CancellationToken cancellationToken) =>
        StartAsync(recipe, disk, null, state, spawned, cancellationToken);

    /// <summary>A machine that boots; returns when its agent has answered.</summary>
    public static Task<RawMachine> BootAsync(RawRecipe recipe, Action spawned, CancellationToken cancellationToken) => StartAsync(recipe, recipe.Disk, null, null, spawned, cancellationToken);

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
            _process.Dispose();
        }

        await (_guest?.DisposeAsync() ?? ValueTask.CompletedTask);
        await (_qmp?.DisposeAsync() ?? ValueTask.CompletedTask);
        Directory.Delete(_directory, recursive: true);
    }

    private static async Task<RawMachine> StartAsync(RawRecipe recipe, string disk, string? memory, string? state, Action? spawned, CancellationToken cancellationToken)
    {
        var machine = new RawMachine(Path.Combine(recipe.Directory, string.Create(CultureInfo.InvariantCulture, $"raw{Interlocked.Increment(ref _next)}")));
        try
        {
            await machine.BringUpAsync(recipe, disk, memory, state, spawned, cancellationToken);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    private async Task BringUpAsync(RawRecipe recipe, string disk, string? memory, string? state, Action? spawned, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(_directory);
        using (var copy = Process.Start("cp", ["--sparse=always", "--reflink=auto", disk, Disk]))
        {
            await copy.WaitForExitAsync(cancellationToken);
        }

        spawned?.Invoke();
        _process = await Spawner.StartAsync(Prepare(recipe, memory, state));
        _process.StandardInput.Close();
        _ = _process.StandardOutput.BaseStream.CopyToAsync(Stream.Null, CancellationToken.None);
        var errors = _process.StandardError.ReadToEndAsync(CancellationToken.None);
        _qmp = await UntilListeningAsync(() => QmpClient.ConnectAsync(Path.Combine(_directory, "qmp"), (_, _) => { }, cancellationToken), errors, cancellationToken);
        var channel = await UntilListeningAsync(() => ConnectAsync(Path.Combine(_directory, "agent"), cancellationToken), errors, cancellationToken);
        if (memory is not null)
        {
            await IgnoreSharedAsync(_qmp, true, cancellationToken);
            await _qmp.ExecuteAsync("migrate-incoming", new Dictionary<string, object> { ["uri"] = "fd:8" }, cancellationToken);
        }

        if (state is not null)
        {
            await UntilAsync(async () => Text(await _qmp.ExecuteAsync("query-status", null, cancellationToken)) is not "inmigrate", cancellationToken);
            await _qmp.ExecuteAsync("cont", null, cancellationToken);
        }

        _guest = await GuestConnection.ConnectAsync(
            channel, "raw", new GuestConnectionOptions { HelloDeadline = TimeSpan.FromSeconds(30), HelloInterval = TimeSpan.FromMilliseconds(250) }, NullLogger.Instance, cancellationToken);
    }

    private ProcessStartInfo Prepare(RawRecipe recipe, string? memory, string? state)
    {
        var start = new ProcessStartInfo("/bin/sh") { WorkingDirectory = "/", RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["RAW_KERNEL"] = recipe.Kernel;
        start.Environment["RAW_INITRAMFS"] = recipe.Initramfs;
        start.Environment["RAW_ROOT"] = recipe.Root;
        start.Environment["RAW_DISK"] = Disk;
        start.Environment["RAW_MEMORY"] = memory ?? "";
        start.Environment["RAW_STATE"] = state ?? "";
        foreach (var argument in (string[])["-c", Script, "raw", recipe.Binary, .. Arguments(recipe, memory, state)])
        {
            start.ArgumentList.Add(argument);
        }

        return start;
    }

    /// <summary>The backend's arguments with the paths of this machine. A clone maps the golden memory; others have memory of their own.</summary>
    private IEnumerable<string> Arguments(RawRecipe recipe, string? memory, string? state)
    {
        for (var i = 0; i < recipe.Arguments.Count; i++)
        {
            var argument = recipe.Arguments[i];
            if (argument == "-incoming")
            {
                i++;
                continue;
            }

            yield return argument switch
            {
                _ when i > 0 && recipe.Arguments[i - 1] == "-name" => "raw",
                _ when argument.Contains("id=qmp,path=", StringComparison.Ordinal) => $"socket,id=qmp,path={_directory}/qmp,server=on,wait=off",
                _ when argument.Contains("id=agent,path=", StringComparison.Ordinal) => $"socket,id=agent,path={_directory}/agent,server=on,wait=off",
                _ when memory is null && argument.StartsWith("memory-backend-", StringComparison.Ordinal) =>
                    string.Create(CultureInfo.InvariantCulture, $"memory-backend-memfd,id=ram,size={recipe.MemoryMiB}M,share=on"),
                _ => argument,
            };
        }

        if (memory is not null || state is not null)
        {
            yield return "-incoming";
            yield return memory is null ? "fd:8" : "defer";
        }
    }

    private static Task IgnoreSharedAsync(QmpClient qmp, bool on, CancellationToken cancellationToken) => qmp.ExecuteAsync(
        "migrate-set-capabilities",
        new Dictionary<string, object> { ["capabilities"] = new[] { new Dictionary<string, object> { ["capability"] = "x-ignore-shared", ["state"] = on } } },
        cancellationToken);

    private static string Text(JsonElement status) => status.TryGetProperty("status", out var text) ? text.GetString() ?? "" : "";

    private static async Task<T> UntilListeningAsync<T>(Func<Task<T>> connect, Task<string> errors, CancellationToken cancellationToken)
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
                    throw new BenchException($"a raw machine ended at once: {(await errors).Trim()}");
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
