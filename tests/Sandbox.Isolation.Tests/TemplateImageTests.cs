using Sandbox.Isolation.Images;
using Xunit;

namespace Sandbox.Isolation.Tests;

/// <summary>Manifests of images, also of those that an older program has written.</summary>
public sealed class TemplateImageTests
{
    [Fact]
    public void An_image_that_does_not_say_its_kind_is_of_Linux_and_has_the_usual_names()
    {
        var folder = Directory.CreateTempSubdirectory("image-").FullName;
        try
        {
            File.WriteAllText(Path.Combine(folder, TemplateImage.FileName), """{"format":1,"template":"old","version":"0123456789abcdef","builtAt":"2026-01-01T00:00:00Z","kernelRelease":"6.1.0"}""");

            var image = TemplateImage.Load(folder);

            Assert.Equal((TemplateImage.LinuxKind, "vmlinuz", "root.erofs", "user", 512), (image.Kind, image.Kernel, image.Root, image.DefaultUser, image.Sizes.MemoryMiB));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
