using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using Sandbox.Wasm.Worker.Platform;
using Sandbox.Wasm.Worker.Running;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Wasi;

/// <summary>
/// The world of one guest: WASI preview 1, all of it answered here. Wasmtime's own is not used: its waits cannot be interrupted, its standard streams are files of the host, and its directories are
/// too. Runs on the guest's thread only.
/// </summary>
internal sealed partial class WasiProcess : IDisposable
{
    /// <summary>Descriptors of one guest.</summary>
    private const int MaxDescriptors = 256;

    /// <summary>Bytes that one call moves before the guest is looked at again.</summary>
    private const int Stretch = 1 << 20;

    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    private readonly SortedDictionary<int, Descriptor> _descriptors = [];
    private readonly byte[][] _arguments;
    private readonly byte[][] _environment;

    public WasiProcess(Run run, IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>> environment)
    {
        Run = run;
        _arguments = [.. arguments.Select(Encoded)];
        _environment = [.. environment.Select(e => Encoded(e.Key + "=" + e.Value))];
    }

    public Run Run { get; }

    /// <summary>The guest's memory, once it has one.</summary>
    public Memory? Memory { get; set; }

    /// <summary>Opens what is there under a name and is no file. The arguments are the file system, and the path as the guest says it.</summary>
    public Func<Volume.SessionVolume, string, Descriptor?>? Special { get; init; }

    /// <summary>What it said at its exit.</summary>
    public int? ExitCode { get; private set; }

    /// <summary>Gives it a descriptor: the next number.</summary>
    public int Add(Descriptor descriptor)
    {
        for (var fd = 0; fd < MaxDescriptors; fd++)
        {
            if (!_descriptors.ContainsKey(fd))
            {
                _descriptors[fd] = descriptor;
                return fd;
            }
        }

        descriptor.Dispose();
        throw new WasiException(WasiErrno.TooManyFiles);
    }

    public IEnumerable<DirectoryDescriptor> Preopened => _descriptors.Values.OfType<DirectoryDescriptor>().Where(d => d.Preopened is not null);

    public void Dispose()
    {
        foreach (var descriptor in _descriptors.Values)
        {
            descriptor.Dispose();
        }

        _descriptors.Clear();
    }

    /// <summary>What is held back of its output goes out.</summary>
    public void FlushOutputs()
    {
        foreach (var descriptor in _descriptors.Values)
        {
            (descriptor as OutputDescriptor)?.Output.Flush(Run);
        }
    }

    public int ArgumentSizes(int count, int size) => Sizes(_arguments, count, size);

    public int Arguments(int pointers, int buffer) => Strings(_arguments, pointers, buffer);

    public int EnvironmentSizes(int count, int size) => Sizes(_environment, count, size);

    public int Environment(int pointers, int buffer) => Strings(_environment, pointers, buffer);

    public int ClockResolution(int clock, int result)
    {
        Put(result, clock is >= 0 and <= 3 ? 1UL : throw new WasiException(WasiErrno.Invalid));
        return 0;
    }

    public int ClockTime(int clock, int result)
    {
        Put(result, clock switch
        {
            0 => (ulong)(DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100,
            1 => Native.Monotonic(),
            2 or 3 => (ulong)Native.ThreadCpu().Ticks * 100,
            _ => throw new WasiException(WasiErrno.Invalid),
        });
        return 0;
    }

    public int Random(int address, int length)
    {
        for (var left = (uint)length; left > 0;)
        {
            var part = (int)Math.Min(left, Stretch);
            RandomNumberGenerator.Fill(At(address, part));
            address += part;
            left -= (uint)part;
            if (left > 0)
            {
                Run.Look();
            }
        }

        return 0;
    }

    public int Yield()
    {
        Run.Look();
        return 0;
    }

    public void Exit(int code)
    {
        ExitCode = code;
        throw new GuestEndedException("exit");
    }

    private static byte[] Encoded(string text) => [.. Encoding.UTF8.GetBytes(text.Replace("\0", "", StringComparison.Ordinal)), 0];

    private int Sizes(byte[][] strings, int count, int size)
    {
        Put(count, (uint)strings.Length);
        Put(size, (uint)strings.Sum(s => s.Length));
        return 0;
    }

    private int Strings(byte[][] strings, int pointers, int buffer)
    {
        foreach (var text in strings)
        {
            Put(pointers, (uint)buffer);
            text.CopyTo(At(buffer, text.Length));
            pointers += 4;
            buffer += text.Length;
        }

        return 0;
    }

    private T Get<T>(int fd)
        where T : Descriptor =>
        _descriptors.TryGetValue(fd, out var descriptor)
            ? descriptor as T ?? throw new WasiException(typeof(T) == typeof(DirectoryDescriptor) ? WasiErrno.NotDirectory : descriptor is DirectoryDescriptor ? WasiErrno.IsDirectory : WasiErrno.Invalid)
            : throw new WasiException(WasiErrno.BadDescriptor);

    /// <summary>A stretch of the guest's memory, checked. Not to be kept across anything that may run the guest.</summary>
    private Span<byte> At(int address, int length)
    {
        var memory = Memory ?? throw new WasiException(WasiErrno.Fault);
        return length >= 0 && (uint)address + (long)length <= memory.GetLength() ? memory.GetSpan((uint)address, length) : throw new WasiException(WasiErrno.Fault);
    }

    private void Put(int address, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(At(address, 4), value);

    private void Put(int address, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(At(address, 8), value);

    private string Text(int address, int length)
    {
        if ((uint)length > 4096)
        {
            throw new WasiException(WasiErrno.NameTooLong);
        }

        try
        {
            var text = Strict.GetString(At(address, length));
            return text.Contains('\0') ? throw new WasiException(WasiErrno.Invalid) : text;
        }
        catch (DecoderFallbackException)
        {
            throw new WasiException(WasiErrno.IllegalSequence);
        }
    }
}
