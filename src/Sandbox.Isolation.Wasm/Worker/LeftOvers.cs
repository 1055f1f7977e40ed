using System.Diagnostics;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Wasm.Worker;

/// <summary>Removes what a worker leaves.</summary>
internal static class LeftOvers
{
    /// <summary>Kills whatever is in its cgroup, and removes that and its directories.</summary>
    public static async Task<bool> RemoveAsync(CgroupTree cgroups, string name, string directory, string? cache, ProcessIdentity? known = null)
    {
        var killed = false;
        foreach (var pid in cgroups.ProcessesOf(name).Concat(known is { IsRunning: true } ? [known.Pid] : []).Distinct())
        {
            try
            {
                using var process = Process.GetProcessById(pid);
                process.Kill();
                await process.WaitForExitAsync().ConfigureAwait(false);
                killed = true;
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException)
            {
                // It ended first.
            }
        }

        await cgroups.RemoveAsync(name).ConfigureAwait(false);
        foreach (var path in (string?[])[cache, directory])
        {
            if (path is not null && Directory.Exists(path))
            {
                Directory.Delete(path, recursive: true);
            }
        }

        return killed;
    }
}
