using System.Diagnostics;
using System.Globalization;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>
/// The root of each image as a read-only directory, once for all of its containers on this host: mounted where the kernel can (one copy in its page cache for all), else unpacked. It stays between runs and is
/// removed when its image is.
/// </summary>
internal sealed class ImageRoots(string directory, ILogger logger)
{
    private static readonly TimeSpan Deadline = TimeSpan.FromMinutes(5);

    /// <summary>Unmounts what nobody uses: a data directory that still has mounts below it cannot be removed by its owner. What a live container holds stays mounted, and the next start finds it so.</summary>
    public async Task ReleaseAsync()
    {
        foreach (var place in Directory.Exists(directory) ? Directory.GetDirectories(directory) : [])
        {
            var root = Path.Combine(place, "root");
            if (File.ReadLines("/proc/self/mounts").Any(m => m.Split(' ')[1] == root) && await RunAsync("umount", [root], CancellationToken.None) is { } refused)
            {
                logger.LogInformation("The root of an image stays mounted at {Root}: {Reason}", root, refused);
            }
        }
    }

    /// <summary>The directory for an image, made if it is not there.</summary>
    /// <exception cref="IsolationException">The image can neither be mounted nor unpacked.</exception>
    public async Task<string> GetAsync(string imageDirectory, CancellationToken cancellationToken)
    {
        var image = TemplateImage.Load(imageDirectory);
        var place = Path.Combine(directory, string.Create(CultureInfo.InvariantCulture, $"{image.Template}-{image.Version}-{image.BuiltAt.UtcTicks:x}"));
        var root = Path.Combine(place, "root");
        if (IsReady(root))
        {
            return root;
        }

        Directory.CreateDirectory(place);
        using var turn = await ExclusiveFile.AcquireAsync(Path.Combine(place, "lock"), null, cancellationToken);
        if (IsReady(root))
        {
            return root;
        }

        await File.WriteAllTextAsync(Path.Combine(place, "image"), Path.GetFullPath(imageDirectory), cancellationToken);
        var file = Path.Combine(imageDirectory, image.Root);
        Directory.CreateDirectory(root);
        if (await RunAsync("mount", ["-t", "erofs", "-o", "loop,ro,nosuid,nodev", file, root], cancellationToken) is not { } refused)
        {
            return root;
        }

        logger.LogWarning("The root of image {Image} cannot be mounted ({Reason}); it is unpacked into {Directory}", imageDirectory, refused, place);
        var partial = root + ".partial";
        Remove(partial);
        if (await RunAsync("fsck.erofs", [$"--extract={partial}", "--preserve", file], cancellationToken) is { } failed)
        {
            Remove(partial);
            throw new IsolationException($"The root of image {imageDirectory} can neither be mounted ({refused}) nor unpacked ({failed}).");
        }

        Directory.Delete(root);
        Directory.Move(partial, root);
        return root;
    }

    /// <summary>Removes the roots of images that are gone. Containers that still run from one keep it.</summary>
    /// <returns>What was removed.</returns>
    public IReadOnlyList<string> RemoveUnused()
    {
        List<string> removed = [];
        foreach (var place in Directory.Exists(directory) ? Directory.GetDirectories(directory) : [])
        {
            var record = Path.Combine(place, "image");
            if (File.Exists(record) && !File.Exists(Path.Combine(File.ReadAllText(record), TemplateImage.FileName)))
            {
                Kernel.Unmount(Path.Combine(place, "root"));
                Remove(place);
                removed.Add(place);
            }
        }

        return removed;
    }

    /// <summary>A mounted or unpacked root has something in it; a mount point alone has not.</summary>
    private static bool IsReady(string root) => Directory.Exists(root) && Directory.EnumerateFileSystemEntries(root).Any();

    private static void Remove(string path)
    {
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
    }

    /// <summary>What went wrong, or <see langword="null"/>.</summary>
    private static async Task<string?> RunAsync(string program, string[] arguments, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Deadline);
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true, WorkingDirectory = "/" })!;
            try
            {
                var said = await Task.WhenAll(process.StandardError.ReadToEndAsync(limit.Token), process.StandardOutput.ReadToEndAsync(limit.Token));
                await process.WaitForExitAsync(limit.Token);
                return process.ExitCode == 0 ? null : said[0].Trim() is { Length: > 0 } error ? error : $"{program} ended with exit code {process.ExitCode}";
            }
            catch (OperationCanceledException)
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
                throw;
            }
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return $"{program}: {e.Message}";
        }
    }
}
