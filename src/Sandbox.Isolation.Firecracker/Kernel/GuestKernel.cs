using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker.Kernel;

/// <summary>
/// The kernels of images as Firecracker loads them, unpacked once for each version of an image and kept in a cache: 53 MB that a host without Firecracker need not have, and that an image need not carry.
/// </summary>
internal sealed class GuestKernel(string cacheDirectory)
{
    /// <summary>The file for an image; made if it is not there.</summary>
    /// <exception cref="IsolationException">The image's kernel cannot be unpacked.</exception>
    public async Task<string> EnsureAsync(string imageDirectory, CancellationToken cancellationToken)
    {
        var image = TemplateImage.Load(imageDirectory);
        var packed = Path.Combine(imageDirectory, image.Kernel);
        var written = File.GetLastWriteTimeUtc(packed).Ticks;
        var path = Path.Combine(cacheDirectory, $"vmlinux-{image.Template}-{image.Version}-{written:x}");
        if (File.Exists(path))
        {
            return path;
        }

        Directory.CreateDirectory(cacheDirectory);
        await using var turn = await ExclusiveFile.AcquireAsync(Path.Combine(cacheDirectory, ".vmlinux.lock"), null, cancellationToken);
        if (File.Exists(path))
        {
            return path;
        }

        try
        {
            var kernel = await BzImage.ExtractAsync(await File.ReadAllBytesAsync(packed, cancellationToken), cancellationToken);
            await File.WriteAllBytesAsync(path + ".partial", kernel, cancellationToken);

            // Every machine's user reads it.
            File.SetUnixFileMode(path + ".partial", UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
            File.Move(path + ".partial", path);
            return path;
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            throw new IsolationException($"The kernel {packed} cannot be made ready for Firecracker: {e.Message}", e);
        }
    }
}
