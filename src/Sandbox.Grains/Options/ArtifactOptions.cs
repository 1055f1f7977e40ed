namespace Sandbox.Grains;

/// <summary>What a host takes of the files that executions make. It reads them through the guest's agent, so every number here bounds what a guest can cost.</summary>
public sealed class ArtifactOptions
{
    /// <summary>Largest file that comes with its event, in bytes. Default 32 KiB.</summary>
    public int InlineBytes { get; set; } = 32 * 1024;

    /// <summary>Most bytes of one execution that come with events; what is beyond is stored. Default 1 MiB.</summary>
    public int InlineTotalBytes { get; set; } = 1024 * 1024;

    /// <summary>Largest file that is read, in bytes; of a larger one only path and size are told. At most 256 MiB. Default 32 MiB.</summary>
    public int FileBytes { get; set; } = 32 * 1024 * 1024;

    /// <summary>Most bytes read of one execution. Default 128 MiB.</summary>
    public long TotalBytes { get; set; } = 128L * 1024 * 1024;

    /// <summary>Most files told of one execution, 1 to 1000. Default 100.</summary>
    public int Files { get; set; } = 100;

    /// <summary>How long reading all files of one execution may take; its exit waits for that. Default 10 s.</summary>
    public TimeSpan ReadTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Executions whose files are read at the same time; others wait. Bounds the memory that files are held in. Default 4.</summary>
    public int Concurrent { get; set; } = 4;
}
