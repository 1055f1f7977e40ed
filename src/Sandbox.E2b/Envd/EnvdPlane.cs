using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.E2b.Envd.Files;
using Sandbox.E2b.Envd.Filesystem;
using Sandbox.E2b.Envd.Process;

namespace Sandbox.E2b.Envd;

/// <summary>Port 49983: health, files over REST, files and processes over Connect-RPC.</summary>
internal sealed class EnvdPlane(ProcessService processes, FilesystemService filesystem, FilesService files)
{
    private const string ProcessPrefix = "/process.Process/";

    private const string FilesystemPrefix = "/filesystem.Filesystem/";

    /// <summary>Serves a call.</summary>
    public Task HandleAsync(DataCall call) => SandboxGone.ServeAsync(call, Find);

    private Task? Find(DataCall call)
    {
        var path = call.Context.Request.Path.Value ?? "";
        return path switch
        {
            "/health" => HealthAsync(call),
            "/files" or "/files/compose" => files.TryHandleAsync(call, path),
            "/metrics" => MetricsAsync(call),
            _ when path.StartsWith(ProcessPrefix, StringComparison.Ordinal) => processes.TryHandleAsync(call, path[ProcessPrefix.Length..]),
            _ when path.StartsWith(FilesystemPrefix, StringComparison.Ordinal) => filesystem.TryHandleAsync(call, path[FilesystemPrefix.Length..]),
            _ => null,
        };
    }

    private static async Task HealthAsync(DataCall call)
    {
        var info = await call.Session<ISessionGrain>().GetAsync();
        call.Context.Response.StatusCode = info.State == SessionState.Running ? StatusCodes.Status204NoContent : StatusCodes.Status502BadGateway;
    }

    private static async Task MetricsAsync(DataCall call)
    {
        const double MiB = 1024 * 1024;
        var now = await call.Session<ISessionGrain>().GetMetricsAsync();

        // Busy since it booted: the guest is asked once, and a rate needs two answers.
        var busy = now.Uptime > TimeSpan.Zero && now.Vcpus > 0 ? 100 * now.CpuBusy / now.Uptime / now.Vcpus : 0;
        var used = now.MemoryTotal - now.MemoryAvailable;
        await call.Context.Response.WriteAsJsonAsync(
            new
            {
                ts = now.GuestTime.ToUnixTimeSeconds(),
                cpu_count = now.Vcpus,
                cpu_used_pct = Math.Round(Math.Clamp(busy, 0, 100), 2),
                mem_total = now.MemoryTotal,
                mem_used = used,
                mem_total_mib = (long)(now.MemoryTotal / MiB),
                mem_used_mib = (long)(used / MiB),
                disk_used = now.DiskTotal - now.DiskFree,
                disk_total = now.DiskTotal,
            },
            call.Context.RequestAborted);
    }
}
