using System.Diagnostics;
using System.Runtime.InteropServices;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;
using Sandbox.Qemu.Mapper;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// The process that carries out <see cref="MapOrder"/>s, started when it is first needed. It ends with its standard input, so with this process; one that does not answer is killed, and the next order has another.
/// </summary>
internal sealed class MapperProcess : IAsyncDisposable
{
    private const string Program = "memory-mapper.dll";

    /// <summary>An order of 16,000 pieces takes a few hundred milliseconds.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);

    private readonly SemaphoreSlim _turn = new(1, 1);
    private Process? _process;
    private bool _disposed;

    /// <summary>Where the runtime that runs this program is.</summary>
    private static string Dotnet => Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));

    /// <summary>Has it running, so that an order need not wait for its start.</summary>
    /// <exception cref="IsolationException">It cannot be started.</exception>
    public async Task PrepareAsync(CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            await StartAsync();
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Has a process make mappings.</summary>
    /// <param name="order">Which.</param>
    /// <param name="cancellationToken">Gives up waiting for its turn. What has begun is carried out.</param>
    /// <exception cref="IsolationException">It could not make all of them.</exception>
    public async Task MapAsync(MapOrder order, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            var process = await StartAsync();
            using var deadline = new CancellationTokenSource(Deadline);
            await process.StandardInput.BaseStream.WriteAsync(order.Encode(), deadline.Token);
            await process.StandardInput.BaseStream.FlushAsync(deadline.Token);
            if (await MapOrder.ReadAnswerAsync(process.StandardOutput.BaseStream, deadline.Token) is { Length: > 0 } problem)
            {
                throw new IsolationException(problem);
            }
        }
        catch (Exception e) when (e is IOException or InvalidDataException or OperationCanceledException)
        {
            // Whatever it was at is undone or ended with it: the kernel kills a process whose tracer dies while it holds it.
            await EndAsync();
            throw new IsolationException($"The process that maps memory ({Program}) did not answer: {e.Message}", e);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Ends it for good, after the order it is at. Safe to repeat.</summary>
    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync();
        try
        {
            _disposed = true;
            await EndAsync();
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<Process> StartAsync()
    {
        if (_disposed)
        {
            throw new IsolationException("Memory is not mapped any more: the backend is being closed.");
        }

        if (_process is { HasExited: false })
        {
            return _process;
        }

        await EndAsync();
        var program = Path.Combine(AppContext.BaseDirectory, Program);
        if (!File.Exists(program))
        {
            throw new IsolationException($"There is no {program}, which maps memory into machines; it is built and delivered with this program.");
        }

        var start = new ProcessStartInfo("setsid", ["setpriv", "--pdeathsig", "KILL", "--", Dotnet, program])
        {
            WorkingDirectory = "/",
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment["DOTNET_EnableDiagnostics"] = "0";
        start.Environment["DOTNET_TieredPGO"] = "0";
        try
        {
            return _process = await Spawner.StartAsync(start);
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new IsolationException($"{program}, which maps memory into machines, cannot be started: {e.Message}", e);
        }
    }

    private async Task EndAsync()
    {
        if (_process is { } process)
        {
            _process = null;
            process.Kill();
            await process.WaitForExitAsync();
            process.Dispose();
        }
    }
}
