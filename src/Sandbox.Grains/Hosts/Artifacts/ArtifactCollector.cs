using System.Text;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Output;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Artifacts;

namespace Sandbox.Grains.Hosts.Artifacts;

/// <summary>Whose files are collected, and with whose rights they are read.</summary>
internal sealed record ArtifactOwner(IGuest Guest, string Tenant, string SessionId);

/// <summary>Turns what a guest claims to have made into events: reads each file within the limits, keeps it, and says of the rest why it is not kept. Never fails.</summary>
internal sealed class ArtifactCollector(ArtifactStore? store, ArtifactOptions options, TimeProvider clock, ILogger logger) : IDisposable
{
    private readonly SemaphoreSlim _turns = new(Math.Max(1, options.Concurrent));

    /// <summary>Most files that a guest is asked to name.</summary>
    public int Limit => Math.Clamp(options.Files, 1, ProtocolLimits.MaxChangedFiles);

    private int FileBytes => Math.Clamp(options.FileBytes, 0, ArtifactStore.MaxBytes);

    public void Dispose() => _turns.Dispose();

    /// <summary>One event for each file, and a notice where there are more. Takes at most <see cref="ArtifactOptions.ReadTimeout"/>.</summary>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled.</exception>
    public async Task<List<PendingEvent>> CollectAsync(ArtifactOwner owner, string user, ChangedFiles changed, CancellationToken cancellationToken)
    {
        var events = new List<PendingEvent>();
        var reader = new ArtifactReader(owner.Guest, user);
        using var deadline = new CancellationTokenSource(options.ReadTimeout, clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, cancellationToken);
        var (left, inline) = (options.TotalBytes, (long)options.InlineTotalBytes);
        string? givenUp = null;
        var entered = false;
        try
        {
            foreach (var file in changed.Files.Take(Limit))
            {
                ReadFile read;
                ArtifactData? kept = null;
                if (givenUp is null)
                {
                    try
                    {
                        if (!entered)
                        {
                            await _turns.WaitAsync(either.Token);
                            entered = true;
                        }

                        var most = Math.Min(FileBytes, left);
                        read = await reader.ReadAsync(file.Path, (long)Math.Min(file.Size, long.MaxValue / 2), most, Beyond(most), either.Token);
                        left -= read.Data?.Length ?? 0;
                        kept = await KeepAsync(owner, file.Path, read, inline, either.Token);
                        inline -= kept.Inline is null ? 0 : kept.Size;
                    }
                    catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
                    {
                        givenUp = $"reading the files took longer than {options.ReadTimeout.TotalSeconds:0} s";
                    }
                    catch (Exception e) when (e is IOException or ObjectDisposedException)
                    {
                        givenUp = "the guest could not be asked for it any more";
                    }
                }

                cancellationToken.ThrowIfCancellationRequested();
                kept ??= new ArtifactData { Path = file.Path, Size = (long)Math.Min(file.Size, long.MaxValue / 2), MimeType = MimeSniffer.Unknown, Skipped = givenUp };
                events.Add(new PendingEvent(OutputKind.Artifact, clock.GetUtcNow(), OutputJson.Write(kept)));
            }
        }
        finally
        {
            if (entered)
            {
                _turns.Release();
            }
        }

        if (changed.More + (long)Math.Max(0, changed.Files.Count - Limit) is > 0 and var more)
        {
            var text = $"{more} more files were made or changed; the first {events.Count} are told.";
            events.Add(new PendingEvent(OutputKind.Notice, clock.GetUtcNow(), Encoding.UTF8.GetBytes(text)));
        }

        return events;
    }

    private string Beyond(long most) => most < FileBytes
        ? $"with it more than {options.TotalBytes} bytes would be kept of this execution"
        : $"it is larger than the {FileBytes} bytes that are kept of a file";

    private async Task<ArtifactData> KeepAsync(ArtifactOwner owner, string path, ReadFile read, long inlineLeft, CancellationToken cancellationToken)
    {
        if (read.Data is not { } data)
        {
            return new ArtifactData { Path = path, Size = read.Size, MimeType = MimeSniffer.Unknown, Skipped = read.Skipped };
        }

        var artifact = new ArtifactData { Path = path, Size = data.Length, MimeType = MimeSniffer.Of(data), Sha256 = read.Sha256 };
        if (data.Length <= options.InlineBytes && data.Length <= inlineLeft)
        {
            return artifact with { Inline = Convert.ToBase64String(data) };
        }

        if (store is null)
        {
            return artifact with { Sha256 = null, Skipped = "this server keeps no files" };
        }

        var id = SandboxIds.NewArtifact();
        try
        {
            await store.PutAsync(owner.Tenant, owner.SessionId, id, new ArtifactInfo(ArtifactInfo.NameOf(path), artifact.MimeType, data.Length, read.Sha256!), data, cancellationToken);
            return artifact with { Id = id };
        }
        catch (SnapshotException e)
        {
            logger.LogWarning(e, "An artifact of session {Session} cannot be stored", owner.SessionId);
            return artifact with { Sha256 = null, Skipped = "it could not be stored: the server's log says why" };
        }
    }
}
