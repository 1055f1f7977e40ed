using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>User namespaces that say which ids a container's are on the host. Nothing runs in them: mounts are mapped by them. Each range is used again and again, so each namespace is kept.</summary>
internal sealed class UserNamespaces
{
    /// <summary>Ids of a container.</summary>
    public const uint Size = 65536;

    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);
    private readonly ConcurrentDictionary<uint, SafeFileHandle> _known = new();

    /// <summary>The namespace whose id 0 is <paramref name="first"/> on the host.</summary>
    /// <exception cref="IsolationException">The kernel gives none.</exception>
    public async Task<SafeFileHandle> GetAsync(uint first, CancellationToken cancellationToken)
    {
        if (_known.TryGetValue(first, out var known))
        {
            return known;
        }

        // Only one lease holds a range at a time, so nobody makes the same one meanwhile.
        var made = await MakeAsync(first, cancellationToken);
        return _known.GetOrAdd(first, made);
    }

    private static async Task<SafeFileHandle> MakeAsync(uint first, CancellationToken cancellationToken)
    {
        // A process that lives until its input ends is all that it takes to have a namespace.
        using var process = Process.Start(new ProcessStartInfo("unshare", ["--user", "cat"]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/" })!;
        try
        {
            var directory = string.Create(CultureInfo.InvariantCulture, $"/proc/{process.Id}");
            var ours = new FileInfo("/proc/self/ns/user").LinkTarget;
            var clock = Stopwatch.StartNew();
            while (new FileInfo(directory + "/ns/user").LinkTarget is not { } theirs || theirs == ours)
            {
                if (process.HasExited || clock.Elapsed > Deadline)
                {
                    var said = process.HasExited ? (await process.StandardError.ReadToEndAsync(cancellationToken)).Trim() : "it did not answer";
                    throw new IsolationException($"There is no user namespace for a container: unshare --user: {said}");
                }

                await Task.Delay(1, cancellationToken);
            }

            var map = string.Create(CultureInfo.InvariantCulture, $"0 {first} {Size}\n");
            await File.WriteAllTextAsync(directory + "/uid_map", map, cancellationToken);
            await File.WriteAllTextAsync(directory + "/gid_map", map, cancellationToken);
            return File.OpenHandle(directory + "/ns/user");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IsolationException($"There is no user namespace for a container: {e.Message}", e);
        }
        finally
        {
            process.StandardInput.Close();
            await process.WaitForExitAsync(CancellationToken.None);
        }
    }
}
