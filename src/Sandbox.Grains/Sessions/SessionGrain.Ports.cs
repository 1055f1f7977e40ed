using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions;

/// <summary>Ports in the guest, and being in use.</summary>
internal sealed partial class SessionGrain
{
    public async Task<string> OpenPortAsync(int port)
    {
        CheckNumber("port", port, 1, ushort.MaxValue);
        var d = await RequireRunningAsync();
        return await AskMachineAsync(d, vm => vm.OpenPortAsync(d.Generation, port));
    }

    public async Task<SessionInfo> TouchAsync()
    {
        await RequireRunningAsync();
        return Info();
    }
}
