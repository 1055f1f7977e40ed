using Microsoft.AspNetCore.WebUtilities;
using Microsoft.Net.Http.Headers;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Envd.Files;

/// <summary>A body of several files, read one after the other as it comes.</summary>
internal static class MultipartFiles
{
    private const int MaxFiles = 10_000;
    private const int MaxBoundary = 128;

    /// <summary>Reads the parts named <c>file</c>; their file names are their paths where the request gives none.</summary>
    public static async Task ReadAsync(MediaTypeHeaderValue type, Stream body, string? path, Func<string, Stream, Task> write, CancellationToken cancellationToken)
    {
        var boundary = HeaderUtilities.RemoveQuotes(type.Boundary).Value;
        if (string.IsNullOrEmpty(boundary) || boundary.Length > MaxBoundary)
        {
            throw SandboxException.Invalid("Content-Type", "multipart/form-data needs a boundary of 1 to 128 characters.");
        }

        var reader = new MultipartReader(boundary, body);
        var count = 0;
        try
        {
            while (await reader.ReadNextSectionAsync(cancellationToken) is { } section)
            {
                if (!ContentDispositionHeaderValue.TryParse(section.ContentDisposition, out var disposition) || HeaderUtilities.RemoveQuotes(disposition.Name).Value != "file")
                {
                    continue;
                }

                count++;
                if (count > (path is null ? MaxFiles : 1))
                {
                    throw SandboxException.Invalid("file", path is null ? $"An upload has at most {MaxFiles} files." : "One path cannot be that of several files. Leave ?path= out and name each part's file.");
                }

                var name = HeaderUtilities.RemoveQuotes(disposition.FileNameStar.HasValue ? disposition.FileNameStar : disposition.FileName).Value;
                await write(path ?? (string.IsNullOrEmpty(name) ? throw SandboxException.Invalid("path", "A file has no path: neither ?path= nor a file name says it.") : GuestPath.Plain(name)), section.Body);
            }
        }
        catch (IOException e) when (e is not Microsoft.AspNetCore.Http.BadHttpRequestException && !cancellationToken.IsCancellationRequested)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, "The body is no multipart/form-data: " + e.Message);
        }

        if (count == 0)
        {
            throw SandboxException.Invalid("file", "The body has no part named 'file'.");
        }
    }
}
