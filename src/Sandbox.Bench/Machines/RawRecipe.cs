using System.Globalization;
using Sandbox.Bench.Benches;
using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Machines;

/// <summary>
/// How to run the very same machine with nothing around it: the arguments and files of a machine that the backend has made, taken from its process. Good for as long as that machine lives,
/// because the golden memory that clones map is opened through it.
/// </summary>
internal sealed record RawRecipe : IAsyncDisposable
{
    private readonly IAsyncDisposable? _donor;

    /// <summary>A recipe that goes with the machine it was read from, if there is one.</summary>
    internal RawRecipe(IAsyncDisposable? donor) => _donor = donor;

    public required string Binary { get; init; }

    public required IReadOnlyList<string> Arguments { get; init; }

    public required string Kernel { get; init; }

    public required string Initramfs { get; init; }

    public required string Root { get; init; }

    /// <summary>The golden memory that clones map.</summary>
    public required string Memory { get; init; }

    /// <summary>The golden state of CPU and devices.</summary>
    public required string Devices { get; init; }

    /// <summary>The golden disk.</summary>
    public required string Disk { get; init; }

    public required int MemoryMiB { get; init; }

    /// <summary>Where raw machines keep their things.</summary>
    public required string Directory { get; init; }

    /// <summary>Makes one machine for the warm pool, and reads from it how such machines are run.</summary>
    public static async Task<RawRecipe> TakeAsync(OwnBackend own, CancellationToken cancellationToken)
    {
        var golden = await own.GoldenAsync(cancellationToken);
        var image = TemplateImage.Load(own.Image);
        var spec = own.Spec();
        var donor = await own.Backend.PrepareAsync(spec, cancellationToken)
            ?? throw new BenchException("no machine could be cloned from the golden snapshot");
        try
        {
            var pid = own.Runtime.Machines().Single(m => m.VmId == spec.Owner.VmId).Pid;
            var process = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}");
            string[] command = (await File.ReadAllTextAsync(process + "/cmdline", cancellationToken)).TrimEnd('\0').Split('\0');
            return new RawRecipe(donor)
            {
                Binary = command[0],
                Arguments = command[1..],
                Kernel = Path.Combine(own.Image, image.Kernel),
                Initramfs = Path.Combine(own.Image, image.Initramfs),
                Root = Path.Combine(own.Image, image.Root),
                Memory = MemoryOf(process),
                Devices = Path.Combine(golden.Directory, "devices"),
                Disk = Path.Combine(golden.Directory, "disk.img"),
                MemoryMiB = own.Sizes.MemoryMiB,
                Directory = own.Directory,
            };
        }
        catch
        {
            await donor.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _donor?.DisposeAsync() ?? ValueTask.CompletedTask;

    private static string MemoryOf(string process) =>
        System.IO.Directory.EnumerateFiles(process + "/fd").FirstOrDefault(f => new FileInfo(f).LinkTarget?.Contains("memfd:", StringComparison.Ordinal) == true)
            ?? throw new BenchException("a clone has no descriptor of the golden memory; has its launcher changed?");
}
