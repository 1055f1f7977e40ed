using System.Globalization;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions;

/// <summary>Watching directories in the guest. A watch wakes nobody and is no activity, but for beginning it: it ends with its microVM.</summary>
internal sealed partial class SessionGrain
{
    public async Task<string> WatchAsync(string path, bool recursive, string? user)
    {
        CheckPathAndUser(path, user);
        var d = await RequireRunningAsync();
        var number = await AskMachineAsync(d, vm => vm.WatchAsync(d.Generation, path, recursive, user));
        return string.Create(CultureInfo.InvariantCulture, $"{d.Generation}.{number}");
    }

    public async Task<FileEventPage> ReadWatchAsync(string watchId, TimeSpan wait)
    {
        RequireExists();
        var d = Document;
        if (ParseWatch(watchId) is not var (generation, number) || d.State != SessionState.Running || d.Generation != generation)
        {
            throw SandboxException.NotFound("There is no such watch any more: it ended with its microVM.");
        }

        return await AskMachineAsync(d, vm => vm.ReadWatchAsync(generation, number, wait));
    }

    public async Task UnwatchAsync(string watchId)
    {
        RequireExists();
        var d = Document;
        if (ParseWatch(watchId) is var (generation, number) && d.State == SessionState.Running && d.Generation == generation)
        {
            await AskMachineAsync(d, async vm =>
            {
                await vm.UnwatchAsync(generation, number);
                return true;
            });
        }
    }

    private static (long Generation, long Number)? ParseWatch(string? watchId) =>
        (watchId ?? "").Split('.') is [var generation, var number]
        && long.TryParse(generation, NumberStyles.None, CultureInfo.InvariantCulture, out var g)
        && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var n)
            ? (g, n)
            : null;
}
