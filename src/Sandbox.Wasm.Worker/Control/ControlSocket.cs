using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Sandbox.Wasm.Worker.Languages;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Platform;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Control;

/// <summary>Where the server connects to: one connection for each machine, and one for each save.</summary>
internal sealed class ControlSocket(string path, ModuleStore modules)
{
    /// <summary>How long a machine's guests may take to stand still. One that waits stands still already.</summary>
    private static readonly TimeSpan FreezePatience = TimeSpan.FromSeconds(5);

    private readonly ConcurrentDictionary<string, WasmMachine> _machines = new(StringComparer.Ordinal);
    private readonly PythonPool _pythons = new(modules);
    private readonly JavaScriptPool _javaScripts = new(modules);

    /// <summary>Serves until the process ends.</summary>
    public void Run()
    {
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        File.Delete(path);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        listener.Listen(256);

        // What is still needed of the socket calls has been made. A child inherits the filter.
        if (Seccomp.Confine(serves: true) is { } problem)
        {
            Console.Error.WriteLine($"no system call is taken away: {problem}");
        }

        Console.Out.WriteLine("ready");
        Console.Out.Flush();
        while (true)
        {
            Socket socket;
            try
            {
                socket = listener.Accept();
            }
            catch (SocketException)
            {
                // That caller went away again, or there are no descriptors at the moment.
                Thread.Sleep(20);
                continue;
            }

            _ = Task.Run(() => ServeAsync(socket));
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        SafeFileHandle? disk = null;
        await using var stream = new NetworkStream(socket, ownsSocket: true);
        try
        {
            var order = Receive(socket, out disk);
            switch (order?.Operation)
            {
                case "machine" when disk is not null:
                    var opened = disk;
                    disk = null;
                    await RunMachineAsync(order, opened, stream).ConfigureAwait(false);
                    break;
                case "freeze":
                    await FreezeAsync(order.VmId, stream).ConfigureAwait(false);
                    break;
                case "alive":
                    await AnswerAsync(stream, _machines.ContainsKey(order.VmId) ? null : "there is no such machine").ConfigureAwait(false);
                    break;
                default:
                    await AnswerAsync(stream, "the worker does not know the order").ConfigureAwait(false);
                    break;
            }
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
        {
            // The server went away.
        }
        catch (Exception e)
        {
            Console.Error.WriteLine($"a connection failed: {e}");
        }
        finally
        {
            disk?.Dispose();
        }
    }

    private async Task RunMachineAsync(Order order, SafeFileHandle disk, NetworkStream stream)
    {
        SessionVolume volume;
        try
        {
            volume = SessionVolume.Open(disk, order.DiskBytes);
        }
        catch (Exception e) when (e is InvalidDataException or VolumeException or IOException)
        {
            disk.Dispose();
            await AnswerAsync(stream, $"the session's disk cannot be used: {e.Message}").ConfigureAwait(false);
            return;
        }

        using var machine = new WasmMachine(order, volume, modules, _pythons, _javaScripts, stream);
        if (!_machines.TryAdd(order.VmId, machine))
        {
            await AnswerAsync(stream, $"there is a machine '{order.VmId}' already").ConfigureAwait(false);
            return;
        }

        try
        {
            await AnswerAsync(stream, null).ConfigureAwait(false);
            await machine.ServeAsync().ConfigureAwait(false);
        }
        finally
        {
            _machines.TryRemove(order.VmId, out _);
        }
    }

    private async Task FreezeAsync(string vmId, NetworkStream stream)
    {
        if (!_machines.TryGetValue(vmId, out var machine))
        {
            await AnswerAsync(stream, $"there is no machine '{vmId}'").ConfigureAwait(false);
            return;
        }

        try
        {
            var still = machine.Turns.Freeze(FreezePatience);
            machine.Volume.Commit(flush: true);
            await AnswerAsync(stream, still ? null : "a guest did not stand still in time").ConfigureAwait(false);

            // Until the server lets go, or is gone.
            _ = await stream.ReadAsync(new byte[1]).ConfigureAwait(false);
        }
        catch (VolumeException e)
        {
            await AnswerAsync(stream, $"the session's disk could not be written: {e.Message}").ConfigureAwait(false);
        }
        finally
        {
            machine.Turns.Thaw();
        }
    }

    private static async Task AnswerAsync(NetworkStream stream, string? problem) => await stream.WriteAsync(new Answer(problem).Encode()).ConfigureAwait(false);

    private static Order? Receive(Socket socket, out SafeFileHandle? disk)
    {
        var header = new byte[sizeof(int)];
        var got = Native.Receive(socket.SafeHandle, header, out var descriptor);
        disk = descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true) : null;
        var length = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (got < header.Length || length is <= 0 or > Order.MaxBytes)
        {
            return null;
        }

        var json = new byte[length];
        for (var done = 0; done < length;)
        {
            var n = socket.Receive(json.AsSpan(done));
            if (n == 0)
            {
                return null;
            }

            done += n;
        }

        return Order.Parse(json);
    }
}
