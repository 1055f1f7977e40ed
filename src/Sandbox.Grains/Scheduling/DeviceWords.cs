using Sandbox.Isolation.Devices;

namespace Sandbox.Grains.Scheduling;

/// <summary>Kinds and states of devices as hosts report them: words, so that a server of another version is understood.</summary>
internal static class DeviceWords
{
    public static string Of(DeviceKind kind) => kind == DeviceKind.Npu ? "npu" : "gpu";

    public static string Of(DeviceState state) => state.ToString().ToLowerInvariant();

    public static DeviceKind? ParseKind(string kind) => kind switch { "gpu" => DeviceKind.Gpu, "npu" => DeviceKind.Npu, _ => null };

    /// <summary>A state that is not known is not free.</summary>
    public static DeviceState ParseState(string state) => Enum.TryParse<DeviceState>(state, ignoreCase: true, out var known) && Enum.IsDefined(known) ? known : DeviceState.Dirty;
}
