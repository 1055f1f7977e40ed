using System.Security.Cryptography;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Hosts.Artifacts;

/// <summary>A guest's file as the host has read it, or why it has not.</summary>
/// <param name="Size">Its size in bytes: what was read, or what the guest claims where nothing was.</param>
/// <param name="Data">Its bytes, or <see langword="null"/>.</param>
/// <param name="Sha256">Of the bytes.</param>
/// <param name="Skipped">Why there are none.</param>
internal readonly record struct ReadFile(long Size, byte[]? Data, string? Sha256, string? Skipped);

/// <summary>Reads one file through a guest's agent, with the rights of the user who made it. The guest may answer what it likes: what is taken is bounded beforehand.</summary>
internal sealed class ArtifactReader(IGuest guest, string user)
{
    public const string Changed = "it changed while it was read";

    /// <summary>Reads a file of at most so many bytes, whole and as it stood at one time.</summary>
    /// <exception cref="GuestUnavailableException">The guest is gone.</exception>
    /// <exception cref="OperationCanceledException">It takes too long.</exception>
    public async Task<ReadFile> ReadAsync(string path, long claimed, long most, string beyond, CancellationToken cancellationToken)
    {
        var size = claimed;
        try
        {
            // A file that was still being written may be whole the second time.
            for (var attempt = 1; ; attempt++)
            {
                var before = await StatAsync(path, cancellationToken);
                size = SizeOf(before);
                if (before.Type != FileType.Regular)
                {
                    return new ReadFile(0, null, null, "it is no regular file any more");
                }

                if (size > most)
                {
                    return new ReadFile(size, null, null, beyond);
                }

                if (await TryReadAsync(path, before, (int)size, cancellationToken) is { } data)
                {
                    return new ReadFile(size, data.Bytes, data.Sha256, null);
                }

                if (attempt == 2)
                {
                    return new ReadFile(size, null, null, Changed);
                }
            }
        }
        catch (GuestException e)
        {
            return new ReadFile(size, null, null, $"it could not be read: {Clip(e.Message)}");
        }
    }

    private static long SizeOf(FileInfo info) => (long)Math.Min(info.Size, long.MaxValue / 2);

    private static string Clip(string message) => message.Length <= 256 ? message : message[..256];

    private async Task<(byte[] Bytes, string Sha256)?> TryReadAsync(string path, FileInfo before, int size, CancellationToken cancellationToken)
    {
        var opened = await guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = path, User = user, Read = new OpenRead() } }, cancellationToken);
        var handle = opened.Handle.Handle;
        try
        {
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            var data = new byte[size];
            for (var done = 0; done < size;)
            {
                var read = new ReadChunk { Handle = handle, Offset = (ulong)done, Length = (uint)Math.Min(size - done, ProtocolLimits.MaxChunkBytes) };
                var chunk = (await guest.RequestAsync(new Request { Read = read }, cancellationToken)).Chunk.Data;
                if (chunk.Length == 0 || chunk.Length > size - done)
                {
                    return null;
                }

                chunk.Span.CopyTo(data.AsSpan(done));
                hash.AppendData(chunk.Span);
                done += chunk.Length;
            }

            // By its path, and not through a link: what was read is what is there.
            var after = await StatAsync(path, cancellationToken);
            return after.Type == FileType.Regular && after.Size == before.Size && after.ModifiedUnixNanos == before.ModifiedUnixNanos
                ? (data, Convert.ToHexStringLower(hash.GetHashAndReset()))
                : null;
        }
        finally
        {
            await CloseQuietlyAsync(handle);
        }
    }

    private async Task<FileInfo> StatAsync(string path, CancellationToken cancellationToken) =>
        (await guest.RequestAsync(new Request { Stat = new StatPath { Path = path, User = user } }, cancellationToken)).File;

    private async Task CloseQuietlyAsync(ulong handle)
    {
        try
        {
            using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(2));
            await guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle } }, deadline.Token);
        }
        catch (Exception e) when (e is GuestException or IOException or OperationCanceledException)
        {
            // The agent closes what is not used.
        }
    }
}
