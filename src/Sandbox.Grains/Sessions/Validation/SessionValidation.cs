using System.Text;
using System.Text.RegularExpressions;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Devices;

namespace Sandbox.Grains.Sessions.Validation;

/// <summary>Checks a new session's request. Fields are named as the JSON API spells them.</summary>
internal static partial class SessionValidation
{
    private static readonly TimeSpan Second = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan ShortestCheckpointPeriod = TimeSpan.FromSeconds(10);
    private const int MaxDevices = 16;

    private static readonly TimeSpan LongestCheckpointPeriod = TimeSpan.FromDays(1);

    public static void Check(CreateSessionRequest request, SessionOptions options)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (!Isolation.Images.ImageStore.IsTemplateName(request.Template ?? ""))
        {
            throw SandboxException.Invalid("template", "A template id has 1 to 40 lower-case letters, digits and hyphens and begins with a letter.");
        }

        if (request.Backend is { } backend && !BackendName().IsMatch(backend))
        {
            throw SandboxException.Invalid("backend", "A backend's name has 1 to 40 lower-case letters, digits and hyphens.");
        }

        CheckNeeds(request.Needs);
        if (request.Egress is { } egress)
        {
            PolicyValidation.Validate(egress);
        }

        CheckRange("vcpus", request.Vcpus, 1, Math.Min(32, options.MaxVcpus), "vCPUs");
        CheckRange("memoryMiB", request.MemoryMiB, 128, Math.Min(65536, options.MaxMemoryMiB), "MiB of memory");
        CheckRange("diskMiB", request.DiskMiB, 64, Math.Min(1048576, options.MaxDiskMiB), "MiB of disk");
        CheckTimeouts(request.IdleTimeout, request.MaxLifetime, options);
        CheckTime("runLimitSeconds", request.RunLimit, options.IdleTimeoutCeiling);
        if (request.Sealed && request.From is null)
        {
            throw SandboxException.Invalid("from", "A sealed session is the saved state of another: name a checkpoint to begin with.");
        }

        CheckEnv("env", request.Env);
        CheckMetadata(request.Metadata);
        CheckPolicy(request);
        if (request.From is { } from && !(SandboxIds.IsSession(from.SessionId) && SandboxIds.IsCheckpoint(from.CheckpointId)))
        {
            throw SandboxException.Invalid("from", "'from' names a session and a checkpoint of it: {\"sessionId\": \"ses_…\", \"checkpointId\": \"chk_…\"}.");
        }
    }

    private static void CheckNeeds(SessionNeeds? needs)
    {
        if (needs is null)
        {
            throw SandboxException.Invalid("needs", "What the session needs may be left out, but not null.");
        }

        if (needs.Boundary is { } boundary && !Enum.IsDefined(boundary))
        {
            throw SandboxException.Invalid("needs.boundary", "A boundary is one of 'hostKernel', 'webAssembly', 'userSpaceKernel', 'virtualMachine'.");
        }

        if (needs.Devices is null || needs.Devices.Any(d => d is null || DeviceRequest.TryParse(d.Kind) is null))
        {
            throw SandboxException.Invalid("needs.devices", "A device is named by a kind ('gpu', 'npu'), by a PCI vendor ('10de'), or by vendor and device ('10de:2684', lower-case hexadecimal).");
        }

        if (needs.Devices.Any(d => d.Count < 1) || needs.Devices.Sum(d => (long)d.Count) > MaxDevices)
        {
            throw SandboxException.Invalid("needs.devices", $"A session may have 1 to {MaxDevices} devices.");
        }
    }

    public static void CheckCheckpointName(string? name)
    {
        if (name is not null && (name.Length is 0 or > 100 || name.Any(char.IsControl) || char.IsWhiteSpace(name[0]) || char.IsWhiteSpace(name[^1])))
        {
            throw SandboxException.Invalid("name", "A checkpoint's name has 1 to 100 printable characters and neither begins nor ends with a space.");
        }
    }

    private static void CheckPolicy(CreateSessionRequest request)
    {
        if (!Enum.IsDefined(request.IdleAction))
        {
            throw SandboxException.Invalid("idleAction", "What happens to an idle session is 'pause' or 'terminate'.");
        }

        if (request.Checkpoints is null)
        {
            throw SandboxException.Invalid("checkpoints", "The policy for checkpoints may be left out, but not null.");
        }

        if (request.Checkpoints.Every is { } period && (period < ShortestCheckpointPeriod || period > LongestCheckpointPeriod))
        {
            throw SandboxException.Invalid("checkpoints.everySeconds", $"{period.TotalSeconds:0.#} s between checkpoints is outside {ShortestCheckpointPeriod.TotalSeconds:0} s to {LongestCheckpointPeriod.TotalDays:0} day.");
        }
    }

    public static void CheckTimeouts(TimeSpan? idle, TimeSpan? life, SessionOptions options)
    {
        CheckTime("idleTimeoutSeconds", idle, options.IdleTimeoutCeiling);
        CheckTime("maxLifetimeSeconds", life, options.MaxLifetimeCeiling);
    }

    public static void CheckEnv(string field, Dictionary<string, string>? env)
    {
        if (env is null)
        {
            throw SandboxException.Invalid(field, "The environment may be empty, but not null.");
        }

        if (env.Count > 256)
        {
            throw SandboxException.Invalid(field, $"The environment has {env.Count} entries; at most 256 are allowed.");
        }

        var bytes = 0L;
        foreach (var (name, value) in env)
        {
            if (!EnvName().IsMatch(name))
            {
                throw SandboxException.Invalid(field, $"'{Clip(name)}' is not a name of an environment variable: letters, digits and underscores, not beginning with a digit.");
            }

            if (value is null || value.Contains('\0', StringComparison.Ordinal))
            {
                throw SandboxException.Invalid(field, $"The value of '{Clip(name)}' is null or contains a NUL character.");
            }

            bytes += Encoding.UTF8.GetByteCount(name) + Encoding.UTF8.GetByteCount(value) + 2;
        }

        if (bytes > 64 * 1024)
        {
            throw SandboxException.Invalid(field, $"The environment has {bytes} bytes; at most 65536 are allowed.");
        }
    }

    private static void CheckMetadata(Dictionary<string, string>? metadata)
    {
        if (metadata is null || metadata.Count > 64)
        {
            throw SandboxException.Invalid("metadata", "Metadata has at most 64 entries and is not null.");
        }

        var bytes = 0L;
        foreach (var (name, value) in metadata)
        {
            if (name.Length is 0 or > 256 || value is null)
            {
                throw SandboxException.Invalid("metadata", "A metadata name has 1 to 256 characters, and its value is not null.");
            }

            bytes += Encoding.UTF8.GetByteCount(name) + Encoding.UTF8.GetByteCount(value);
        }

        if (bytes > 16 * 1024)
        {
            throw SandboxException.Invalid("metadata", $"Metadata has {bytes} bytes; at most 16384 are allowed.");
        }
    }

    private static void CheckRange(string field, int? value, int least, int most, string unit)
    {
        if (value < least || value > most)
        {
            throw SandboxException.Invalid(field, $"{value} {unit} are outside {least} to {most}.");
        }
    }

    public static void CheckRunLimit(TimeSpan limit, SessionOptions options) => CheckTime("runLimitSeconds", limit, options.IdleTimeoutCeiling);

    private static void CheckTime(string field, TimeSpan? value, TimeSpan most)
    {
        if (value < Second || value > most)
        {
            throw SandboxException.Invalid(field, $"{value} is outside {Second} to {most}.");
        }
    }

    private static string Clip(string text) => text.Length <= 60 ? text : text[..60] + "…";

    [GeneratedRegex(@"\A[A-Za-z_][A-Za-z0-9_]*\z")]
    private static partial Regex EnvName();

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex BackendName();
}
