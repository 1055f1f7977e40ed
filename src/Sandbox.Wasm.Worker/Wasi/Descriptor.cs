using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Wasi;

/// <summary>What a descriptor of a guest stands for.</summary>
internal abstract class Descriptor : IDisposable
{
    /// <summary>WASI's append, nonblock and so on.</summary>
    public ushort Flags { get; set; }

    public virtual byte FileType => 2;

    /// <summary>Closes what it stands for.</summary>
    public void Dispose() => Closing();

    protected virtual void Closing()
    {
    }
}

/// <summary>Standard input, or whatever else a guest reads as a stream.</summary>
internal sealed class InputDescriptor(IGuestInput input) : Descriptor
{
    public IGuestInput Input { get; } = input;
}

/// <summary>Standard output or error, or whatever else a guest writes as a stream.</summary>
internal sealed class OutputDescriptor(IGuestOutput output) : Descriptor
{
    public IGuestOutput Output { get; } = output;
}

/// <summary>A stream of both directions.</summary>
internal sealed class ChannelDescriptor(IGuestInput input, IGuestOutput output) : Descriptor
{
    public IGuestInput Input { get; } = input;

    public IGuestOutput Output { get; } = output;
}

/// <summary>An open file.</summary>
internal sealed class FileDescriptor(SessionVolume volume, Node node, Node directory, string name, bool readable, bool writable) : Descriptor
{
    private bool _written;

    public SessionVolume Volume { get; } = volume;

    public Node Node { get; } = node;

    public long Position { get; set; }

    public bool Readable { get; } = readable;

    public bool Writable { get; } = writable;

    public override byte FileType => 4;

    public void Written() => _written = true;

    protected override void Closing()
    {
        if (_written)
        {
            Volume.TellWritten(directory, name, Node);
        }

        Volume.Close(Node);
    }
}

/// <summary>An open directory.</summary>
internal sealed class DirectoryDescriptor(SessionVolume volume, Node node, string? preopened) : Descriptor
{
    public SessionVolume Volume { get; private set; } = volume;

    public Node Node { get; private set; } = node;

    /// <summary>The name under which the guest is given it from the start.</summary>
    public string? Preopened { get; } = preopened;

    /// <summary>What is in it, as it was when its reading began.</summary>
    public List<(string Name, Node Node)>? Listing { get; set; }

    public override byte FileType => 3;

    /// <summary>Lets it stand for another directory: a guest that was started beforehand gets its session's.</summary>
    public void Become(SessionVolume volume, Node node) => (Volume, Node, Listing) = (volume, node, null);
}

/// <summary>Where a guest's stream comes from.</summary>
internal interface IGuestInput
{
    /// <summary>Reading would not wait.</summary>
    bool Ready { get; }

    /// <summary>Reads, waiting for at least a byte. 0: the end.</summary>
    int Read(Run run, Span<byte> data);

    /// <summary>Waits until reading would not wait, or so long.</summary>
    void WaitUntilReady(TimeSpan most, CancellationToken cancellationToken);
}

/// <summary>Where a guest's stream goes.</summary>
internal interface IGuestOutput
{
    /// <summary>Takes all of it. May wait, and ends with the guest.</summary>
    void Write(Run run, ReadOnlySpan<byte> data);

    /// <summary>What is held back goes on.</summary>
    void Flush(Run run);
}

/// <summary>A stream with nothing in it.</summary>
internal sealed class NoInput : IGuestInput
{
    public static readonly NoInput Instance = new();

    public bool Ready => true;

    public int Read(Run run, Span<byte> data) => 0;

    public void WaitUntilReady(TimeSpan most, CancellationToken cancellationToken)
    {
    }
}
