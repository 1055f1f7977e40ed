namespace Sandbox.Guest.Protocol;

/// <summary>
/// Numbers both ends of the guest channel agree on. The host enforces every one of them on what the guest sends;
/// the guest enforces them on the host too, because a bug is as good as an attack.
/// </summary>
public static class ProtocolLimits
{
    /// <summary>Version in <see cref="Hello"/>; both ends must name the same one.</summary>
    public const uint Version = 1;

    /// <summary>What both ends send before their <see cref="Hello"/>: lets a reader find the start of a connection in stale bytes.</summary>
    public static ReadOnlySpan<byte> Preamble => "SBXGUEST\0\0\0\0\0\0\0\0"u8;

    /// <summary>Largest serialized <see cref="Frame"/>, in bytes. Sized for one file chunk plus headroom.</summary>
    public const int MaxFrameBytes = 512 * 1024;

    /// <summary>Largest payload of one <see cref="Output"/> event or one <see cref="StdinData"/>, in bytes.</summary>
    public const int MaxOutputBytes = 64 * 1024;

    /// <summary>Largest payload of one <see cref="Chunk"/> or <see cref="WriteChunk"/>, in bytes.</summary>
    public const int MaxChunkBytes = 256 * 1024;

    /// <summary>Largest sum of the parts of one <see cref="RichResult"/>, in bytes; a larger one becomes a <see cref="CodeError"/>-free notice on stderr.</summary>
    public const int MaxResultBytes = 384 * 1024;

    /// <summary>Longest path, in UTF-8 bytes (Linux <c>PATH_MAX</c>).</summary>
    public const int MaxPathBytes = 4096;

    /// <summary>Longest <see cref="Error.Message"/>, in UTF-8 bytes.</summary>
    public const int MaxErrorMessageBytes = 4096;

    /// <summary>Most entries in one <see cref="FileList"/>.</summary>
    public const int MaxListEntries = 1000;

    /// <summary>Most files named in one <see cref="ChangedFiles"/>.</summary>
    public const int MaxChangedFiles = 1000;

    /// <summary>Most executions running at once in one microVM.</summary>
    public const int MaxExecutions = 256;

    /// <summary>Most file handles open at once over the channel.</summary>
    public const int MaxFileHandles = 64;

    /// <summary>Most watches at once.</summary>
    public const int MaxWatches = 64;

    /// <summary>Most connections to ports at once. One counts from the answer that opened it until the guest's last word on it (<see cref="PortData.Reset"/>).</summary>
    public const int MaxPortConnections = 256;

    /// <summary>Largest payload of one <see cref="PortData"/>, in bytes.</summary>
    public const int MaxPortDataBytes = 32 * 1024;

    /// <summary>Bytes that either side may send on a connection to a port before the other grants more with <see cref="PortCredit"/>.</summary>
    public const int PortWindow = 256 * 1024;

    /// <summary>Most bytes of a file's labels, names and values together.</summary>
    public const int MaxMetadataBytes = 4096;

    /// <summary>Longest name of a file's label, in bytes: with its prefix it fits the 255 that Linux allows an extended attribute.</summary>
    public const int MaxMetadataNameBytes = 240;

    /// <summary>
    /// A context whose id is this and its language is a spare: it is made before the golden snapshot, is not listed, and gives its interpreter to the first context
    /// of that language and user.
    /// </summary>
    public const string WarmContextPrefix = "warm-";

    /// <summary>Most contexts at once.</summary>
    public const int MaxContexts = 32;

    /// <summary>Default for <see cref="StartExecution.OutputWindow"/>, in bytes.</summary>
    public const int DefaultOutputWindow = 1024 * 1024;

    /// <summary>Largest accepted <see cref="StartExecution.OutputWindow"/>, in bytes.</summary>
    public const int MaxOutputWindow = 8 * 1024 * 1024;

    /// <summary>Most bytes of stdin the host may have under way beyond the last <see cref="StdinCredit"/>.</summary>
    public const int MaxStdinUnderWay = 256 * 1024;

    /// <summary>Default of <see cref="StartExecution.GraceMs"/>: how long a SIGTERM (or an interrupt) is given before SIGKILL.</summary>
    public const int DefaultGraceMs = 2000;
}
