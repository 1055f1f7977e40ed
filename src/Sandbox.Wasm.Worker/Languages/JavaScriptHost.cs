using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>The one function that JavaScript can call outside of itself: output, files, time, randomness. What it refuses is an exception there.</summary>
internal sealed class JavaScriptHost(Run run, WasiProcess process, IGuestInput input)
{
    private const int MaxInput = 16 << 20;
    private const int MaxRandom = 65536;

    private WasmMachine? _machine;

    public delegate void OutputAction(OutputFd fd, ReadOnlySpan<byte> data);

    public JavaScriptEngine Engine { get; set; } = null!;

    public OutputAction Output { get; set; } = (_, _) => { };

    public string Directory { get; private set; } = WasmMachine.Home;

    /// <summary>Whose files it sees. None before it is anybody's.</summary>
    private WasmMachine Machine => _machine ?? throw new VolumeException(Errno.NoEntry);

    /// <summary>Makes it a machine's.</summary>
    public void Adopt(WasmMachine machine, string directory) => (_machine, Directory) = (machine, directory);

    /// <summary>Serves a call. Returns a value of the guest, or 0 with an exception under way.</summary>
    public int Call(int count, int arguments)
    {
        run.ThrowIfKilled();
        try
        {
            return Serve(Engine.Numbers(arguments, count));
        }
        catch (VolumeException e)
        {
            return Engine.Throw(e.Message, e.Errno switch
            {
                Errno.NoEntry => "ENOENT",
                Errno.Exists => "EEXIST",
                Errno.NotDirectory => "ENOTDIR",
                Errno.IsDirectory => "EISDIR",
                Errno.NotEmpty => "ENOTEMPTY",
                Errno.NoSpace => "ENOSPC",
                _ => "EINVAL",
            });
        }
        catch (Exception e) when (e is WorkerException or WasiException or FormatException or OverflowException or IndexOutOfRangeException)
        {
            return Engine.Throw(e.Message, "EINVAL");
        }
    }

    public void ChangeDirectory(string to) => Directory = Machine.DirectoryFor(WasmMachine.PathFrom(Directory, to));

    /// <summary>Waits for a timer; less long if interrupted, and then the guest goes on to find that out.</summary>
    public void Sleep(TimeSpan time)
    {
        process.Run.Look();
        _ = run.Sleep(time);
    }

    private int Serve(int[] values)
    {
        switch (Engine.Text(values[0]))
        {
            case "write":
                var fd = Engine.Text(values[1]) == "2" ? OutputFd.Stderr : OutputFd.Stdout;
                Engine.WithContent(values[2], data => Output(fd, data));
                return Engine.Undefined;
            case "read":
                return Read(Path(values[1]), text: false);
            case "readText":
                return Read(Path(values[1]), text: true);
            case "write_file":
                WriteFile(Path(values[1]), values[2], Engine.Text(values[3]) == "append");
                return Engine.Undefined;
            case "stat":
                var node = Machine.Volume.Find(Machine.Volume.Root, Path(values[1]));
                return Engine.String(JsonSerializer.Serialize(
                    new JavaScriptStat(node.Kind switch { NodeKind.File => "file", NodeKind.Directory => "directory", _ => "link" }, node.Size, node.Modified / 1e6, node.Mode),
                    JavaScriptJson.Default.JavaScriptStat));
            case "list":
                var names = Machine.Volume.List(Machine.Volume.Find(Machine.Volume.Root, Path(values[1]))).Select(e => e.Name).Order(StringComparer.Ordinal).ToList();
                return Engine.String(JsonSerializer.Serialize(names, JavaScriptJson.Default.ListString));
            case "mkdir":
                _ = Engine.Text(values[2]) == "parents" ? Machine.Volume.MakeDirectories(Path(values[1])) : Machine.Volume.MakeDirectory(Machine.Volume.Root, Path(values[1]), 0x1ed);
                return Engine.Undefined;
            case "remove":
                var how = Engine.Text(values[2]);
                Machine.Volume.Remove(Machine.Volume.Root, Path(values[1]), how == "directory", how == "file", how == "recursive");
                return Engine.Undefined;
            case "rename":
                Machine.Volume.Move(Machine.Volume.Root, Path(values[1]), Machine.Volume.Root, Path(values[2]), overwrite: true);
                return Engine.Undefined;
            case "cwd":
                return Engine.String(Directory);
            case "chdir":
                ChangeDirectory(Engine.Text(values[1]));
                return Engine.Undefined;
            case "stdin":
                return Engine.String(ReadInput());
            case "random":
                return Engine.Buffer(RandomNumberGenerator.GetBytes(Math.Clamp(int.Parse(Engine.Text(values[1]), CultureInfo.InvariantCulture), 0, MaxRandom)));
            case "uuid":
                return Engine.String(Guid.NewGuid().ToString());
            case "encode":
                return Converted(values[1], text: false);
            case "decode":
                return Converted(values[1], text: true);
            case "exit":
                process.Exit(int.TryParse(Engine.Text(values[1]), CultureInfo.InvariantCulture, out var code) ? code & 0xff : 1);
                return 0;
            default:
                return Engine.Throw("the sandbox has no such function", "ENOSYS");
        }
    }

    private string Path(int value) => WasmMachine.PathFrom(Directory, Engine.Text(value));

    private int Read(string path, bool text)
    {
        var volume = Machine.Volume;
        var node = volume.Find(volume.Root, path);
        if (node.Kind != NodeKind.File || node.Size > Machine.Allowance.MemoryBytes)
        {
            throw new VolumeException(node.Kind == NodeKind.File ? Errno.TooBig : Errno.IsDirectory);
        }

        return Engine.Filled(node.Size, text, (piece, offset) =>
        {
            run.Look();
            return volume.Read(node, piece, offset);
        });
    }

    /// <summary>A text as the bytes of its UTF-8, or the other way round.</summary>
    private int Converted(int value, bool text)
    {
        byte[] bytes = [];
        Engine.WithContent(value, content => bytes = content.Length <= MaxInput ? content.ToArray() : throw new VolumeException(Errno.TooBig));
        return Engine.Filled(bytes.Length, text, (piece, offset) =>
        {
            bytes.AsSpan((int)offset, piece.Length).CopyTo(piece);
            return piece.Length;
        });
    }

    private void WriteFile(string path, int content, bool append)
    {
        var volume = Machine.Volume;
        var (node, parent, name, _) = volume.OpenFile(volume.Root, path, follow: true, create: true, exclusive: false, 0x1a4);
        try
        {
            var at = append ? node.Size : 0;
            if (!append)
            {
                volume.Resize(node, 0);
            }

            Engine.WithContent(content, bytes =>
            {
                for (var done = 0; done < bytes.Length;)
                {
                    var piece = bytes[done..Math.Min(bytes.Length, done + (1 << 20))];
                    volume.Write(node, piece, at + done);
                    done += piece.Length;
                }
            });
            volume.TellWritten(parent, name, node);
        }
        finally
        {
            volume.Close(node);
        }
    }

    private string ReadInput()
    {
        var all = new MemoryStream();
        var buffer = new byte[64 * 1024];
        for (int n; (n = input.Read(run, buffer)) > 0;)
        {
            all.Write(buffer, 0, n);
            if (all.Length > MaxInput)
            {
                throw new VolumeException(Errno.TooBig);
            }
        }

        return Encoding.UTF8.GetString(all.GetBuffer(), 0, (int)all.Length);
    }
}
