using System.ComponentModel;
using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Devices;

/// <summary>A part of an NVIDIA GPU (MIG).</summary>
/// <param name="GpuUuid">The GPU.</param>
/// <param name="Profile">Its share, for example <c>1g.10gb</c>.</param>
/// <param name="Uuid">The part, as containers name it.</param>
public sealed record MigInstance(string GpuUuid, string Profile, string Uuid);

/// <summary>The parts that NVIDIA GPUs are divided into. Nothing in sysfs says so; <c>nvidia-smi -L</c> does, where it is installed.</summary>
public static partial class NvidiaMig
{
    /// <summary>Most characters of the list that are read.</summary>
    private const int MaxList = 256 << 10;

    /// <summary>It talks to a driver that may hang.</summary>
    private static readonly TimeSpan Deadline = TimeSpan.FromSeconds(10);

    /// <summary>Asks the program. Empty where it is not installed, fails or does not answer within ten seconds.</summary>
    public static async Task<IReadOnlyList<MigInstance>> ReadAsync(string program = "/usr/bin/nvidia-smi", CancellationToken cancellationToken = default)
    {
        if (!File.Exists(program))
        {
            return [];
        }

        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Deadline);
        try
        {
            using var process = Process.Start(new ProcessStartInfo(program, ["-L"]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
            try
            {
                process.StandardInput.Close();
                var text = new char[MaxList];
                return Parse(new string(text, 0, await process.StandardOutput.ReadBlockAsync(text, limit.Token)));
            }
            finally
            {
                if (!process.HasExited)
                {
                    process.Kill();
                }
            }
        }
        catch (Exception e) when (e is Win32Exception or IOException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return [];
        }
    }

    /// <summary>Reads the list: a line for each GPU, below it one for each part. Lines of another form are passed over.</summary>
    public static IReadOnlyList<MigInstance> Parse(string list)
    {
        ArgumentNullException.ThrowIfNull(list);
        List<MigInstance> instances = [];
        string? gpu = null;
        foreach (var line in list.Split('\n'))
        {
            if (Gpu().Match(line) is { Success: true } found)
            {
                gpu = found.Groups[1].Value;
            }
            else if (gpu is not null && Part().Match(line) is { Success: true } part)
            {
                instances.Add(new MigInstance(gpu, part.Groups[1].Value, part.Groups[2].Value));
            }
        }

        return instances;
    }

    [GeneratedRegex(@"\AGPU \d+: .{1,200}\(UUID: (GPU-[0-9a-f-]{8,64})\)\s*\z")]
    private static partial Regex Gpu();

    [GeneratedRegex(@"\A\s+MIG ([0-9a-z.+]{1,40})\s+Device\s+\d+: \(UUID: (MIG-[0-9A-Za-z/-]{8,100})\)\s*\z")]
    private static partial Regex Part();
}
