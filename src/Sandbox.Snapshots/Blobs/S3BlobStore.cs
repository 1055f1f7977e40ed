using System.Net;
using System.Runtime.CompilerServices;
using Amazon.Runtime;
using Amazon.S3;
using Amazon.S3.Model;

namespace Sandbox.Snapshots.Blobs;

/// <summary>
/// Blobs as objects of an S3 bucket, or of a store that speaks its protocol and honours <c>If-None-Match: *</c> on put. The client's connections, retries and credentials are its owner's.
/// </summary>
/// <param name="client">The client; for most stores other than Amazon's it needs <c>ForcePathStyle</c> and <c>RequestChecksumCalculation.WHEN_REQUIRED</c>.</param>
/// <param name="bucket">The bucket, which exists.</param>
/// <param name="prefix">Put before every name, or empty; a <c>/</c> follows it.</param>
public sealed class S3BlobStore(IAmazonS3 client, string bucket, string prefix) : IBlobStore
{
    private const int MostAttempts = 5;
    private readonly string _prefix = prefix.Length == 0 ? "" : BlobName.Check(prefix) + "/";

    /// <inheritdoc/>
    public async Task PutAsync(string name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        var key = Key(name);
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                using var content = new MemoryStream(data.ToArray(), writable: false);
                await client.PutObjectAsync(
                    new PutObjectRequest { BucketName = bucket, Key = key, InputStream = content, IfNoneMatch = "*", UseChunkEncoding = false, AutoCloseStream = false }, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.PreconditionFailed)
            {
                // The client may have repeated a put whose answer was lost: then what is there is what we wrote.
                if (await ReadAsync(name, 0, null, cancellationToken).ConfigureAwait(false) is { } there && there.AsSpan().SequenceEqual(data.Span))
                {
                    return;
                }

                throw new SnapshotException(SnapshotErrorKind.AlreadyExists, $"Blob {name} exists already.", e);
            }
            catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.Conflict && attempt < MostAttempts)
            {
                // Two puts of one name at the same moment: the next attempt finds out who won.
                await Task.Delay(TimeSpan.FromMilliseconds(50 * attempt), cancellationToken).ConfigureAwait(false);
            }
            catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.InsufficientStorage || e.ErrorCode is "QuotaExceeded" or "XMinioStorageFull")
            {
                throw new SnapshotException(SnapshotErrorKind.NoSpace, $"Bucket {bucket} has no space left; make room there, or delete checkpoints.", e);
            }
            catch (Exception e) when (IsFault(e, cancellationToken))
            {
                throw Unusable(name, e);
            }
        }
    }

    /// <inheritdoc/>
    public async Task<byte[]?> ReadAsync(string name, long offset, int? length, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        var request = new GetObjectRequest { BucketName = bucket, Key = Key(name) };
        if (offset > 0 || length is not null)
        {
            // A range has at least one byte.
            request.ByteRange = new ByteRange(offset, length is null ? long.MaxValue : offset + Math.Max(1, length.Value) - 1);
        }

        try
        {
            using var answer = await client.GetObjectAsync(request, cancellationToken).ConfigureAwait(false);
            using var content = new MemoryStream();
            await answer.ResponseStream.CopyToAsync(content, cancellationToken).ConfigureAwait(false);
            return length < content.Length ? content.GetBuffer()[..length.Value] : content.ToArray();
        }
        catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.NotFound && e.ErrorCode != "NoSuchBucket")
        {
            return null;
        }
        catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            return [];
        }
        catch (Exception e) when (IsFault(e, cancellationToken))
        {
            throw Unusable(name, e);
        }
    }

    /// <inheritdoc/>
    public async Task DeleteAsync(string name, CancellationToken cancellationToken)
    {
        try
        {
            await client.DeleteObjectAsync(bucket, Key(name), cancellationToken).ConfigureAwait(false);
        }
        catch (AmazonS3Exception e) when (e.StatusCode == HttpStatusCode.NotFound && e.ErrorCode != "NoSuchBucket")
        {
            // Some stores say so; it is no error.
        }
        catch (Exception e) when (IsFault(e, cancellationToken))
        {
            throw Unusable(name, e);
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<BlobInfo> ListAsync(string folder, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var request = new ListObjectsV2Request { BucketName = bucket, Prefix = Key(folder) + "/" };
        do
        {
            ListObjectsV2Response page;
            try
            {
                page = await client.ListObjectsV2Async(request, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (IsFault(e, cancellationToken))
            {
                throw Unusable(folder, e);
            }

            foreach (var item in page.S3Objects ?? [])
            {
                yield return new BlobInfo(item.Key[_prefix.Length..], item.Size ?? 0, item.LastModified is { } at ? new DateTimeOffset(at.ToUniversalTime()) : DateTimeOffset.UnixEpoch);
            }

            request.ContinuationToken = page.NextContinuationToken;
        }
        while (request.ContinuationToken is not null);
    }

    private string Key(string name) => _prefix + BlobName.Check(name);

    /// <summary>Of the store or the way to it; a timeout of the client is one too, the caller's own cancellation is not.</summary>
    private static bool IsFault(Exception e, CancellationToken cancellationToken) =>
        e is AmazonServiceException or AmazonClientException or IOException or HttpRequestException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested);

    private SnapshotException Unusable(string what, Exception e) => new(SnapshotErrorKind.Unavailable, $"The snapshot store (bucket {bucket}) failed at {what}: {e.Message}", e);
}
